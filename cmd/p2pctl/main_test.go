package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pullonce/pullonce/internal/version"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"p2pctl": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GO_VERSION", runtime.Version())
			env.Setenv("P2PCTL_VERSION", version.String())
			env.Setenv(addressEnv, "unix://"+filepath.Join(env.WorkDir, "p2pd.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": daemon, "door": door, "exits": exits},
		Condition: func(cond string) (bool, error) {
			_, err := os.Stat(defaultSockets[0])
			return cond == "installed" && err == nil, nil
		},
	})
}

// daemon DIR SOCKET serves DIR/status.json as /v1/status, and so on, on a unix socket until the story ends. A file
// error.json is the answer, with status 500, to all that has no file.
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: daemon DIR SOCKET")
	}
	dir, socket := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(filepath.Dir(socket), 0o755))
	listener, err := net.Listen("unix", socket)
	ts.Check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(r.URL.Path, "/v1/")+".json"))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			body, _ = os.ReadFile(filepath.Join(dir, "error.json"))
		}
		_, _ = w.Write(body)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	ts.Defer(func() {
		_ = server.Close()
		<-served
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
