// Package compose runs docker-compose.test.yml with a Docker daemon of its own, in a network namespace of its own.
package compose

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/netfarm"
)

const (
	testTime = 4 * time.Minute
	root     = "../.."
)

func TestAFarmOfContainersPullsOnce(t *testing.T) {
	if err := netfarm.Missing("dockerd", "docker", "docker-compose", "runc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("containers cannot be run here: %v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	farm, err := netfarm.New(ctx, netfarm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := farm.Close(); err != nil {
			t.Error(err)
		}
	}()
	host, err := farm.AddHost(ctx, "compose", netfarm.Link{})
	if err != nil {
		t.Fatal(err)
	}
	docker, err := host.StartDockerd(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	compose := composer(t, ctx, host, docker)
	out, err := compose("up", "--build", "--abort-on-container-exit", "--exit-code-from", "checker", "--no-color")
	if err != nil || !strings.Contains(out, "upstream wrote") {
		t.Errorf("the checker did not end well: %v\n%s\n%s", err, out, docker.Log())
	} else {
		t.Logf("%s", checkerLines(out))
	}
	// The checker's exit code must be able to be another one.
	if out, err := compose("run", "--rm", "--no-deps", "checker", "-within=1s", "-hub=http://127.0.0.1:1", "-admin=http://127.0.0.1:1", "none"); err == nil {
		t.Errorf("a checker without a farm ended with 0:\n%s", out)
	}
	if out, err := compose("down", "--volumes"); err != nil {
		t.Errorf("docker-compose down: %v\n%s", err, out)
	}
}

// composer builds the programs and returns what runs docker-compose with them.
func composer(t *testing.T, ctx context.Context, host *netfarm.Host, docker *netfarm.Docker) func(...string) (string, error) {
	t.Helper()
	dir := filepath.Join(host.Dir(), "build")
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/p2pd", "./internal/hub/cmd/hubd", "./test/compose/checker")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	dockerfile, err := os.ReadFile("Dockerfile")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Dockerfile"), dockerfile, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	file, err := filepath.Abs(filepath.Join(root, "docker-compose.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (string, error) {
		return host.Run(ctx, netfarm.Spec{
			Args: append([]string{"docker-compose", "--project-name", "pullonce", "--file", file}, args...),
			Env:  []string{"DOCKER_HOST=unix://" + docker.Socket(), "PULLONCE_BUILD=" + dir},
		})
	}
}

// checkerLines are the checker's own.
func checkerLines(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "checker") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
