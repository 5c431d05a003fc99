// Package e2e tests a farm of real container engines: each host is a network namespace with its own node on
// 127.0.0.1:5000 and its own engine, which is told of it as its users would do; a Docker Hub stand-in in a namespace of
// its own counts what crosses the upstream link.
//
// The tests need root and the programs that scripts/setup-test-tools.sh installs. Without them they are skipped, or
// fail where CI is "true".
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testTime is how long a test may take on a machine that does other things as well.
const testTime = 5 * time.Minute

// interrupted ends when the tests are interrupted: then they fail, and remove what they have made.
var interrupted, _ = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(programsDir())
	os.Exit(code)
}

// programs are the paths of the programs under test and of crane.
type programs struct{ p2pd, p2pctl, crane string }

func programsDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("p2pd-e2e-%d", os.Getpid()))
}

// built builds the programs once.
var built = sync.OnceValues(func() (programs, error) {
	dir := programsDir()
	p := programs{filepath.Join(dir, "p2pd"), filepath.Join(dir, "p2pctl"), filepath.Join(dir, "crane")}
	err := os.MkdirAll(dir, 0o755)
	for _, args := range [][]string{
		{"-C", "../..", "-o", dir, "./cmd/p2pd", "./cmd/p2pctl"},
		{"-C", "../../tools/crane", "-o", p.crane, "github.com/google/go-containerregistry/cmd/crane"},
	} {
		// -C has to be the first flag.
		cmd := exec.CommandContext(interrupted, "go", append([]string{"build"}, args...)...)
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("go build %s: %w: %s", strings.Join(args, " "), failed, out))
		}
	}
	return p, err
})

func build(t *testing.T) programs {
	t.Helper()
	p, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// lasting is a context for the test: it ends with it, after limit, and when the tests are interrupted.
func lasting(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(interrupted, limit)
	t.Cleanup(cancel)
	return ctx
}
