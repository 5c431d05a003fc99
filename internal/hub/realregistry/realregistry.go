// Package realregistry builds and runs the distribution project's registry (tools/distribution, a
// module of its own) as a process: the real registry behind a Hub, and the pull-through cache that
// benchmarks compare with.
//
// A Process may be used by many goroutines at once.
package realregistry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a process may take to end before it is killed.
const stopTime = 5 * time.Second

// Build compiles the registry into dir and returns the program's path. It looks for the source in
// the folders above the working directory. A second build takes a second, the first one longer.
func Build(ctx context.Context, dir string) (string, error) {
	source, err := source()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "distribution")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", source, err, strings.TrimSpace(string(out)))
	}
	return program, nil
}

func source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		folder := filepath.Join(dir, "tools", "distribution")
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no folder above the working directory has tools/distribution")
		}
		dir = filepath.Dir(dir)
	}
}

// Config says how the registry runs.
type Config struct {
	Program string // what Build returned
	Dir     string // keeps the content
	Listen  string // TCP address; empty: a free port of 127.0.0.1
	// ProxyURL, if set, makes it a pull-through cache of that registry, as ProxyUser if that is set.
	// It heeds Bearer challenges only if the token service has the registry's host and port (or
	// domain), so a Hub before it that is known by an address needs AuthListen: hub.Same.
	ProxyURL, ProxyUser, ProxyPassword string
	// Prefix goes before the command, such as ip netns exec NAME.
	Prefix []string
}

// Process is a running registry. Close ends it.
type Process struct {
	cmd     *exec.Cmd
	address string
	ended   chan struct{}
	once    sync.Once
}

// Start starts the registry and returns when it listens.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	args := append([]string{}, cfg.Prefix...)
	args = append(args, cfg.Program, "-dir", cfg.Dir)
	for _, flag := range [][2]string{
		{"-listen", cfg.Listen}, {"-proxy-url", cfg.ProxyURL}, {"-proxy-user", cfg.ProxyUser}, {"-proxy-password", cfg.ProxyPassword},
	} {
		if flag[1] != "" {
			args = append(args, flag[0], flag[1])
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	lines := bufio.NewReader(stdout)
	first := make(chan string, 1)
	go func() {
		defer close(p.ended)
		line, _ := lines.ReadString('\n')
		first <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait()
	}()
	select {
	case p.address = <-first:
	case <-ctx.Done():
		p.Close()
		return nil, ctx.Err()
	}
	if p.address == "" {
		p.Close()
		return nil, errors.New("the registry ended before it listened")
	}
	return p, nil
}

// URL is the registry's base URL.
func (p *Process) URL() string { return "http://" + p.address }

// PID is the process's id, for measures of its CPU time and memory.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Close ends the process and waits for it.
func (p *Process) Close() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(stopTime)
		defer timer.Stop()
		select {
		case <-p.ended:
		case <-timer.C:
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	})
}
