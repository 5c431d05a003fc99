package procfarm_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/procfarm"
)

// half waits until the farm has read half of size from the upstream, and gives the node that reads it.
func half(t *testing.T, f *procfarm.Farm, size int64) *procfarm.Node {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		owner, read, err := f.ByUpstreamBytes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if read >= size/2 {
			return owner
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d bytes were read from the upstream within a minute", read)
		}
	}
}

func TestAPeerThatIsLostHalfWayCostsNoPullAndNoByteTwice(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		first  int
	}{"killed": {syscall.SIGKILL, 21}, "cut off": {syscall.SIGSTOP, 22}} {
		t.Run(name, func(t *testing.T) {
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
			owner := half(t, f, size)
			victim := f.Nodes[0]
			if victim == owner {
				victim = f.Nodes[1]
			}
			if err := victim.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			for n, result := range pulls {
				if n == victim {
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
			t.Logf("took %v, bound %v", time.Since(begin), time.Second*size/rate)
			victim.Kill()
			<-pulls[victim]
			if got := h.Stats().BlobBytes; got != size {
				t.Errorf("upstream sent %d bytes; want %d", got, size)
			}
		})
	}
}

func TestAKilledNodeGoesOnFromWhatItHadChecked(t *testing.T) {
	t.Parallel()
	const size, rate = 36 << 20, 8 << 20
	h, f := start(t, 1, 23, rate, "")
	d, err := h.PutBlob("library/app", randomBytes(23, size))
	if err != nil {
		t.Fatal(err)
	}
	n := f.Nodes[0]
	first := make(chan error, 1)
	go func() { first <- pull(t.Context(), n, d) }()
	half(t, f, size)
	n.Kill()
	<-first // cut off
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := pull(t.Context(), n, d); err != nil {
		t.Fatal(err)
	}
	// A crash loses the last second of pieces, and what was on its way.
	if got := h.Stats().BlobBytes; got > size+2*rate {
		t.Errorf("upstream sent %d bytes of %d; want the checked pieces kept over the crash", got, size)
	}
}

func TestAKilledFarmServesWhatItHasAtOnce(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	h, f := start(t, 3, 24, 0, "")
	d, err := h.PutBlob("library/app", randomBytes(24, size))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		if err := pull(t.Context(), n, d); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range f.Nodes {
		n.Kill()
	}
	for _, n := range f.Nodes {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		if err := pull(t.Context(), n, d); err != nil {
			t.Error(err)
		}
	}
	if got := h.Stats().BlobBytes; got != size {
		t.Errorf("upstream sent %d bytes; want %d, once for all time", got, size)
	}
}
