package netfarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	namespaceDir = "/var/run/netns"
	closeTime    = time.Minute
	pollEvery    = 20 * time.Millisecond
)

// Missing is nil when this process can make farms and has the programs, and says otherwise what it lacks.
func Missing(programs ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	var lacking []string
	for _, program := range append([]string{"ip", "tc", "bridge", "mount"}, programs...) {
		if _, err := exec.LookPath(program); err != nil {
			lacking = append(lacking, program)
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("not installed: %s", strings.Join(lacking, ", "))
	}
	return nil
}

// command runs a program of the machine's.
func command(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()+" "+stdin))
	}
	return nil
}

// ip runs commands of iproute2's ip in a namespace, one a line.
func ip(ctx context.Context, namespace string, lines ...string) error {
	return command(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", namespace, "-batch", "-")
}

func addNamespace(ctx context.Context, name string) error {
	if err := command(ctx, "", "ip", "netns", "add", name); err != nil {
		return err
	}
	return ip(ctx, name, "link set lo up")
}

// removeNamespace kills what runs in the namespace and removes it. One that does not exist is no error.
func removeNamespace(ctx context.Context, name string) error {
	path := filepath.Join(namespaceDir, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := clearNamespace(ctx, path); err != nil {
		return err
	}
	return command(ctx, "", "ip", "netns", "del", name)
}

// clearNamespace kills all processes of the namespace, and those that they start meanwhile, until there are none.
func clearNamespace(ctx context.Context, path string) error {
	for {
		pids, err := inNamespace(path)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return fmt.Errorf("processes %v do not end: %w", pids, ctx.Err())
		}
	}
}

// inNamespace lists the processes in a network namespace.
func inNamespace(path string) ([]int, error) {
	var namespace syscall.Stat_t
	if err := syscall.Stat(path, &namespace); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var own syscall.Stat_t
		// A process that has ended meanwhile, or a zombie, has none.
		if syscall.Stat(filepath.Join("/proc", entry.Name(), "ns/net"), &own) == nil && own.Ino == namespace.Ino && own.Dev == namespace.Dev {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
