package procfarm_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/procfarm"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "procfarm")
	if err == nil {
		program, err = procfarm.Build(context.Background(), dir)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// start starts a Hub that sends rate bytes a second and a farm that mirrors it.
func start(t *testing.T, nodes, first int, rate int64, extra string) (*hub.Hub, *procfarm.Farm) {
	t.Helper()
	h, err := hub.Start(hub.Config{Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	f, err := procfarm.Start(t.Context(), procfarm.Config{
		Nodes: nodes, Program: program, Dir: t.TempDir(), Upstream: h.URL(), First: first, Extra: extra,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range f.Nodes {
			if text, err := os.ReadFile(n.Log); err == nil && t.Failed() {
				t.Logf("log of %s:\n%s", n.Host, text)
			}
		}
	})
	return h, f
}

// pull reads a blob through a node and says whether it was right.
func pull(ctx context.Context, n *procfarm.Node, d fmt.Stringer) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Registry+"/v2/library/app/blobs/"+d.String(), nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	sum := sha256.New()
	size, err := io.Copy(sum, r.Body)
	if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); err != nil || r.StatusCode != http.StatusOK || got != d.String() {
		return fmt.Errorf("pull through %s: %s, %d bytes, %s, %w", n.Host, r.Status, size, got, err)
	}
	return nil
}

func TestASuccessorFetchesOnlyWhatNoLiveNodeHas(t *testing.T) {
	for _, c := range []struct {
		name     string
		signal   syscall.Signal
		first    int
		buffered float64
	}{{"killed", syscall.SIGKILL, 11, 0}, {"cut off", syscall.SIGSTOP, 12, 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const size, rate = 48 << 20, 12 << 20
			h, f := start(t, 5, c.first, rate, "")
			d, err := h.PutBlob("library/app", randomBytes(byte(c.first), size))
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			pulls := make(map[*procfarm.Node]chan error)
			for _, n := range f.Nodes {
				result := make(chan error, 1)
				pulls[n] = result
				go func() { result <- pull(t.Context(), n, d) }()
			}
			var owner *procfarm.Node
			for read := int64(0); read < size/2; time.Sleep(20 * time.Millisecond) {
				if owner, read, err = f.ByUpstreamBytes(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := owner.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			for n, result := range pulls {
				if n == owner {
					continue
				}
				select {
				case err := <-result:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(time.Minute):
					t.Fatalf("the pull through %s did not end within a minute", n.Host)
				}
			}
			took := time.Since(begin)
			owner.Kill()
			<-pulls[owner]
			stats := h.Stats()
			ratio := float64(stats.BlobBytes) / size
			t.Logf("took %v, bound %v; upstream ÷ unique %.3f", took, time.Second*size/rate, ratio)
			// What the kernels hold between the stand-in and a node that was stopped in its tracks counts as sent.
			const inKernels = 12 << 20
			if most := 1.05 + inKernels/float64(size)*c.buffered; ratio > most {
				t.Errorf("upstream sent %.3f times the blob; want at most %.3f", ratio, most)
			}
		})
	}
}
