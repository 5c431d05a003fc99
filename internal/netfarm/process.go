package netfarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	defaultReadyWithin = 30 * time.Second
	logTail            = 4 << 10
)

// enterScript gives the program its own view of the machine's files before it becomes the program: FROM TO … -- PROGRAM.
const enterScript = `set -e
mount --make-rslave /
if [ "$1" = own-pids ]; then mount -t proc proc /proc; shift; fi
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"`

// A Spec says what to run on a host.
type Spec struct {
	// Name is that of the log, NAME.log in the host's folder; empty: the program's.
	Name string
	Args []string
	// Env comes after PATH, HOME (the host's folder), TMPDIR and SSL_CERT_FILE (Farm.CAFile).
	Env []string
	// Binds puts files or folders of the machine over others, for this program alone: what is seen there by place.
	Binds map[string]string
	// OwnPIDs makes it process 1 of its own: what it starts ends with it. For engines.
	OwnPIDs bool
	// Ready, if set, is asked until it returns nil, for at most ReadyWithin (0: 30 s).
	Ready       func(context.Context) error
	ReadyWithin time.Duration
}

// A Process is a program on a host. It ends with the farm at the latest.
type Process struct {
	cmd  *exec.Cmd
	name string
	log  string
	done chan struct{}
	err  error // how it ended, when done is closed
}

// Start starts a program and returns when it is ready. What it writes goes to its log.
func (h *Host) Start(ctx context.Context, spec Spec) (*Process, error) {
	p, err := h.start(spec, nil)
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", spec.name(), h.name, err)
	}
	if spec.Ready == nil {
		return p, nil
	}
	within := spec.ReadyWithin
	if within == 0 {
		within = defaultReadyWithin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := Poll(ctx, p.alive(spec.Ready)); err != nil {
		p.Kill()
		return nil, fmt.Errorf("%s on %s is not ready: %w\n%s", spec.name(), h.name, err, p.Log())
	}
	return p, nil
}

// Run runs a program to its end, or kills it with ctx, and returns what it wrote to stdout; the error has the rest.
func (h *Host) Run(ctx context.Context, spec Spec) (string, error) {
	var stdout strings.Builder
	p, err := h.start(spec, &stdout)
	if err == nil {
		err = p.Wait(ctx)
	}
	if err != nil {
		if p != nil {
			p.Kill()
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(p.Log()))
		}
		return stdout.String(), fmt.Errorf("%s on %s: %w", strings.Join(spec.Args, " "), h.name, err)
	}
	return stdout.String(), nil
}

func (s Spec) name() string {
	if s.Name != "" || len(s.Args) == 0 {
		return s.Name
	}
	return filepath.Base(s.Args[0])
}

// start starts the program with stderr, and stdout if none is given, in its log.
func (h *Host) start(spec Spec, stdout io.Writer) (*Process, error) {
	if len(spec.Args) == 0 {
		return nil, errors.New("no program")
	}
	log, err := os.CreateTemp(h.dir, spec.name()+".*.log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	if stdout == nil {
		stdout = log
	}
	cmd := exec.Command("/bin/sh", h.enterArgs(spec)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, stdout, log
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.dir, "TMPDIR=" + h.dir,
		"SSL_CERT_FILE=" + h.farm.CAFile(),
	}, spec.Env...)
	// A group of its own: an interrupt at the terminal is for the farm's program, which then closes the farm.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNS}
	// Output of what the program leaves running is not waited for.
	cmd.WaitDelay = time.Second
	if spec.OwnPIDs {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	p := &Process{cmd: cmd, name: spec.name(), log: log.Name(), done: make(chan struct{})}
	if err := h.launch(p); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// launch starts the process unless the host is being closed: then nobody would end it.
func (h *Host) launch(p *Process) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("the farm is closed")
	}
	if err := h.inside(p.cmd.Start); err != nil {
		return err
	}
	h.processes = append(h.processes, p)
	return nil
}

func (h *Host) enterArgs(spec Spec) []string {
	args := []string{"-c", enterScript, "enter"}
	if spec.OwnPIDs {
		args = append(args, "own-pids")
	}
	args = append(args, h.hostsFile(), "/etc/hosts")
	for to, from := range spec.Binds {
		args = append(args, from, to)
	}
	return append(append(args, "--"), spec.Args...)
}

// Poll asks until the answer is nil, or ctx is done; then the error is the last answer.
func Poll(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if _, ended := errors.AsType[*EndedError](err); ended {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}
