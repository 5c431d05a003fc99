package netfarm_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/netfarm"
)

func newFarm(t *testing.T) *netfarm.Farm {
	t.Helper()
	if err := netfarm.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	farm, err := netfarm.New(t.Context(), netfarm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := farm.Close(); err != nil {
			t.Error(err)
		}
	})
	return farm
}

func addHost(t *testing.T, farm *netfarm.Farm, name string, link netfarm.Link) *netfarm.Host {
	t.Helper()
	h, err := farm.AddHost(t.Context(), name, link)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// serve sends size bytes to everyone who connects to the host, and returns the address.
func serve(t *testing.T, h *netfarm.Host, size int) string {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", h.Addr().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = conn.Write(make([]byte, size))
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func fetch(ctx context.Context, h *netfarm.Host, address string) (int64, error) {
	conn, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return io.Copy(io.Discard, conn)
}

func TestHostsReachEachOtherAndNothingElse(t *testing.T) {
	farm := newFarm(t)
	a, b := addHost(t, farm, "a", netfarm.Link{}), addHost(t, farm, "b", netfarm.Link{})
	address := serve(t, a, 1000)
	if n, err := fetch(t.Context(), b, address); n != 1000 || err != nil {
		t.Errorf("b fetched %d bytes of a: %v; want 1000", n, err)
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outside.Close() }()
	if _, err := fetch(t.Context(), b, outside.Addr().String()); err == nil {
		t.Error("b reached the machine's own loopback")
	}
}

func TestALinkIsAsFastAsItIsToldToBe(t *testing.T) {
	farm := newFarm(t)
	a, b := addHost(t, farm, "a", netfarm.Link{Rate: 80e6}), addHost(t, farm, "b", netfarm.Link{})
	for from, to := range map[*netfarm.Host]*netfarm.Host{a: b, b: a} {
		got, err := netfarm.Goodput(t.Context(), from, to, 500*time.Millisecond)
		// 10 MB/s less headers; a machine that is busy with other things gives less.
		if err != nil || got < 1e6 || got > 10e6 {
			t.Errorf("from %s to %s: %.0f bytes a second, %v; want some 9,500,000 at 80 Mbit/s", from.Name(), to.Name(), got, err)
		}
	}
	if err := a.Shape(t.Context(), netfarm.Link{}); err != nil {
		t.Fatal(err)
	}
	if got, err := netfarm.Goodput(t.Context(), b, a, 500*time.Millisecond); err != nil || got < 15e6 {
		t.Errorf("without a limit: %.0f bytes a second, %v; want far more than 10,000,000", got, err)
	}
}

func TestAHostThatIsCutOffFallsSilent(t *testing.T) {
	farm := newFarm(t)
	a, b := addHost(t, farm, "a", netfarm.Link{}), addHost(t, farm, "b", netfarm.Link{})
	address := serve(t, a, 10)
	if _, err := fetch(t.Context(), b, address); err != nil {
		t.Fatal(err)
	}
	if err := a.CutOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := fetch(ctx, b, address)
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("a fetch from a host that is cut off ended with %v; want no answer at all", err)
	}
	if err := a.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), b, address); err != nil {
		t.Errorf("after Reconnect: %v", err)
	}
}

func TestProgramsSeeTheirHostsNamesAndTheirOwnMounts(t *testing.T) {
	farm := newFarm(t)
	a, b := addHost(t, farm, "a", netfarm.Link{}), addHost(t, farm, "b", netfarm.Link{})
	if err := a.Resolve(netfarm.OneName("quay.io").At(b)); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(farm.Dir(), "own")
	if err := os.WriteFile(own, []byte("own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := a.Run(t.Context(), netfarm.Spec{
		Args:    []string{"sh", "-c", "getent hosts quay.io; cat /etc/hostname; echo $$"},
		Binds:   map[string]string{"/etc/hostname": own},
		OwnPIDs: true,
	})
	if fields := strings.Fields(out); err != nil || len(fields) != 4 ||
		fields[0] != b.Addr().String() || fields[2] != "own" || fields[3] != "1" {
		t.Errorf("the program saw %q, %v; want the address of b, its own file, process id 1", out, err)
	}
}

func TestAProgramThatEndsBeforeItIsReadyIsSaidSoWithItsLog(t *testing.T) {
	h := addHost(t, newFarm(t), "a", netfarm.Link{})
	_, err := h.Start(t.Context(), netfarm.Spec{
		Args:  []string{"sh", "-c", "echo no luck >&2; exit 3"},
		Ready: func(context.Context) error { return errors.New("not yet") },
	})
	if ended, ok := errors.AsType[*netfarm.EndedError](err); !ok || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("the error is %v (%v); want that it ended, and its log", err, ended)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	farm := newFarm(t)
	h := addHost(t, farm, "a", netfarm.Link{})
	p, err := h.Start(t.Context(), netfarm.Spec{
		// A grandchild that has left its parent and ignores what it can.
		Args: []string{"sh", "-c", "trap '' TERM; setsid sleep 1000 & exec sleep 1000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := farm.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("the program still runs")
	}
	left(t, farm)
	if _, err := farm.AddHost(t.Context(), "b", netfarm.Link{}); err == nil {
		t.Error("a closed farm took a host")
	}
}

// left complains of what is left of a farm.
func left(t *testing.T, farm *netfarm.Farm) {
	t.Helper()
	name := filepath.Base(farm.Dir())
	for _, pattern := range []string{farm.Dir(), "/var/run/netns/" + name + "*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), name) {
		t.Errorf("mounts are left behind: %v", err)
	}
}

// TestMain plays the program that makes a farm and is killed, for the test below.
func TestMain(m *testing.M) {
	if os.Getenv("NETFARM_TEST_ABANDON") == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	farm, err := netfarm.New(ctx, netfarm.Config{})
	if err != nil {
		panic(err)
	}
	h, err := farm.AddHost(ctx, "a", netfarm.Link{})
	if err != nil {
		panic(err)
	}
	p, err := h.Start(ctx, netfarm.Spec{Args: []string{"sleep", "1000"}})
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(farm.Dir() + "\n")
	<-p.Done()
}

func TestAFarmWhoseProgramWasKilledIsRemovedByTheNext(t *testing.T) {
	first := newFarm(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETFARM_TEST_ABANDON=1")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the program ended with %v; want it killed", err)
	}
	newFarm(t)
	dir := strings.TrimSpace(line)
	for _, pattern := range []string{dir, "/var/run/netns/" + filepath.Base(dir) + "*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	}
	if _, err := os.Stat(first.Dir()); err != nil {
		t.Errorf("the farm of a program that runs was touched: %v", err)
	}
}
