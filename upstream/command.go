package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// maxPrinted bounds what is taken of what a program prints.
const maxPrinted = 128 << 10

// run starts a program that knows credentials, and gives what it printed, also when it failed. It and all that it
// started end with ctx, and after timeout. The error says nothing of what it printed; that and its arguments may be
// secret.
func run(ctx context.Context, timeout time.Duration, argv []string, input string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	out := &bounded{}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout = strings.NewReader(input), out
	cmd.Env = withoutOwn(cmd.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for a child of its that holds on to its output
	err := cmd.Run()
	switch {
	case out.full:
		return nil, fmt.Errorf("prints more than %d bytes", maxPrinted)
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay): // it has ended well, but what it left behind keeps the output open
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return out.b.Bytes(), nil
	}
	return out.b.Bytes(), err
}

// withoutOwn is an environment without what configures this node: a token to join the farm may be among it.
func withoutOwn(environ []string) []string {
	return slices.DeleteFunc(environ, func(variable string) bool { return strings.HasPrefix(variable, "P2PD_") })
}

// bounded is an output that takes up to maxPrinted bytes.
type bounded struct {
	b    bytes.Buffer
	full bool
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxPrinted {
		w.full = true
		return 0, errors.New("too much")
	}
	return w.b.Write(p)
}
