package netfarm

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// An EndedError says that a process has ended that should be running.
type EndedError struct {
	Name string
	Err  error // nil: exit code 0
}

func (e *EndedError) Error() string { return fmt.Sprintf("%s has ended: %v", e.Name, e.Err) }

// Unwrap is how it ended.
func (e *EndedError) Unwrap() error { return e.Err }

// alive is ask for as long as the process runs.
func (p *Process) alive(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-p.done:
			return &EndedError{p.name, p.err}
		default:
			return ask(ctx)
		}
	}
}

// PID is the process's id as the machine sees it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the process has ended, and returns how.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Signal sends a signal; to a process that has ended, none.
func (p *Process) Signal(signal syscall.Signal) { _ = p.cmd.Process.Signal(signal) }

// Stop asks the process to end, kills it after grace, and returns how it ended.
func (p *Process) Stop(grace time.Duration) error {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %v", p.name, grace)
	}
}

// Kill kills the process and waits until it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// CPU is the processor time that the process took; it must have ended.
func (p *Process) CPU() time.Duration {
	return p.cmd.ProcessState.SystemTime() + p.cmd.ProcessState.UserTime()
}

// Log is the end of what the process wrote.
func (p *Process) Log() string {
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > logTail {
		_, _ = file.Seek(-logTail, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	return string(text)
}

// LogFile is the path of all that the process wrote.
func (p *Process) LogFile() string { return p.log }
