package gossip_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pullonce/pullonce/gossip"
)

// runReal runs a node on a loopback address with a port of the kernel's choice.
func runReal(t *testing.T, cfg gossip.Config, log *slog.Logger) (g *gossip.Gossip, stop func()) {
	t.Helper()
	cfg.Listen, cfg.BootID, cfg.Timings = "127.0.0.1:0", "boot", gossip.Local()
	g, err := gossip.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	<-g.Started()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v; want nil", err)
			}
		})
	}
	t.Cleanup(stop)
	if err := g.UpdateSelf(func(m *gossip.Member) { m.State = gossip.Active }); err != nil {
		t.Fatal(err)
	}
	return g, stop
}

func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func realConfig(id string, seeds ...string) gossip.Config {
	cfg := gossip.Default()
	cfg.ID, cfg.Seeds, cfg.PeerAddr = id, seeds, "127.0.0.1:7947"
	return cfg
}

func TestNodesMeetOverRealSocketsWithAKey(t *testing.T) {
	// The library does not wait for its last goroutines; they end by themselves.
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	key := bytes.Repeat([]byte{7}, 32)
	first := realConfig("a")
	first.Keys = [][]byte{key}
	a, stopA := runReal(t, first, slog.New(slog.DiscardHandler))
	_, port, err := net.SplitHostPort(a.Self().GossipAddr)
	if err != nil {
		t.Fatal(err)
	}
	second := realConfig("b", "localhost:"+port)
	second.Keys = [][]byte{key}
	b, stopB := runReal(t, second, slog.New(slog.DiscardHandler))
	stranger, stopStranger := runReal(t, realConfig("c", a.Self().GossipAddr), slog.New(slog.DiscardHandler))
	within(t, 10*time.Second, "a and b know each other", func() bool {
		return len(a.RingMembers()) == 2 && len(b.RingMembers()) == 2
	})
	if got := len(stranger.Members()); got != 1 {
		t.Errorf("a node without the key knows %d members; want itself alone", got)
	}
	stopStranger()
	stopB()
	within(t, 10*time.Second, "b is gone for a", func() bool { m, _ := a.Member("b"); return m.State == gossip.Gone })
	stopA()
}

func TestTwoNodesWithOneIDAreLoggedAsAnError(t *testing.T) {
	var out lockedBuffer
	a, _ := runReal(t, realConfig("same"), slog.New(slog.NewTextHandler(&out, nil)))
	_, _ = runReal(t, realConfig("same", a.Self().GossipAddr), slog.New(slog.DiscardHandler))
	within(t, 10*time.Second, "the conflict is logged", func() bool {
		return strings.Contains(out.String(), "level=ERROR msg=\"two nodes with one id")
	})
}

func TestAPortInUseIsAnErrorThatNamesIt(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cfg := realConfig("a")
	cfg.Listen = taken.Addr().String()
	g, err := gossip.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("Run on a port in use = %v; want an error that names %s", err, cfg.Listen)
	}
}

func TestAStopDoesNotWaitForASilentSeed(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	cfg := realConfig("a", silent.Addr().String())
	cfg.Listen, cfg.BootID = "127.0.0.1:0", "boot"
	g, err := gossip.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
	case <-time.After(4 * time.Second): // the stream's own deadline is 5 s
		t.Error("a stop waits for a seed that does not answer")
	}
}

func TestAllThatIsWrongWithAConfigIsSaidAtOnce(t *testing.T) {
	_, err := gossip.New(gossip.Config{
		Listen: "0.0.0.0:7946", Seeds: []string{"a:b:c"}, Keys: [][]byte{[]byte("short")},
	}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("New of a bad config = nil; want an error")
	}
	for _, want := range []string{"node id", "gossip advertise address", `seed "a:b:c"`, "hold down", "key of 5 bytes", "probe interval"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New of a bad config = %v; want %q in it", err, want)
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
