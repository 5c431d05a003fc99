package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pullonce/pullonce/internal/version"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"p2pd": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
			stop()
			os.Exit(code)
		},
	})
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RELEASE", version.String())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ports": ports, "takes": takes, "starts": starts, "stops": stops,
		},
	})
}

// exits CODE COMMAND... runs the command and wants that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit code %d; want %d\n%s%s", args[1:], got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// ports VARIABLE... sets each variable to a port of 127.0.0.1 that nothing listens on.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: ports VARIABLE...")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer func() { _ = l.Close() }() // all are open at once, so that no two are the same
		_, port, err := net.SplitHostPort(l.Addr().String())
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// takes PORT listens on that port of 127.0.0.1 until the story ends.
func takes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: takes PORT")
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
}

// starts NAME COMMAND... starts the command and waits until its log says that it serves. Its process id is then the
// variable NAME and its log the file NAME.log.
func starts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: starts NAME COMMAND...")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), log, log
	cmd.Env = append(os.Environ(), "HOME="+ts.MkAbs("."))
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = log.Close()
		close(ended)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if text := ts.ReadFile(args[0] + ".log"); strings.Contains(text, "node serves") {
			return
		}
		select {
		case <-ended:
			ts.Fatalf("%v ended: %s", args[1:], ts.ReadFile(args[0]+".log"))
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v does not serve after 20 s: %s", args[1:], ts.ReadFile(args[0]+".log"))
		}
	}
}

// stops PID SIGNAL SECONDS sends the process a signal and wants it gone in that time.
func stops(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: stops PID SIGNAL SECONDS")
	}
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	seconds, err := strconv.Atoi(args[2])
	ts.Check(err)
	s, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
	if !ok {
		ts.Fatalf("no signal %q", args[1])
	}
	ts.Check(syscall.Kill(pid, s))
	for deadline := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
	}
	ts.Fatalf("process %d is still there %d s after SIG%s", pid, seconds, args[1])
}

// configFile writes a configuration whose addresses are free ports, and gives its path.
func configFile(t *testing.T, upstream, extra string) (path, registry string) {
	t.Helper()
	var at [4]string
	for i := range at {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		at[i] = l.Addr().String()
	}
	dir := t.TempDir()
	text := "data_dir: " + filepath.Join(dir, "data") + "\n" +
		"registry: {listen: [\"" + at[0] + "\"]}\n" +
		"peer: {listen: \"" + at[1] + "\", advertise: \"" + at[1] + "\"}\n" +
		"gossip: {listen: \"" + at[2] + "\", advertise: \"" + at[2] + "\"}\n" +
		"admin: {listen: \"" + at[3] + "\", socket: \"\"}\n" +
		"trust: {mode: none}\n" +
		"upstreams: {docker.io: {url: \"" + upstream + "\"}}\n" + extra
	path = filepath.Join(dir, "p2pd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, at[0]
}
