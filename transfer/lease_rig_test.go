package transfer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A notary gives out leases as a catalog does.
type notary struct {
	mu     sync.Mutex
	leases map[oci.Digest]granted
	asked  int
	answer func(ctx context.Context) error // before an answer; an error is one
	crash  map[string]bool                 // nodes that do not give back any more
}

type granted struct {
	holder string
	until  time.Time
}

// A deed is the notary as one node knows it.
type deed struct {
	*notary
	node string
}

func (d deed) Lease(ctx context.Context, blob oci.Digest) (string, error) {
	if err := d.answer(ctx); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	g := d.leases[blob]
	if g.holder == "" || g.holder == d.node || time.Now().After(g.until) {
		g = granted{d.node, time.Now().Add(30 * time.Second)}
		d.leases[blob] = g
	}
	return g.holder, nil
}

func (d deed) Release(ctx context.Context, blob oci.Digest) error {
	if err := d.answer(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leases[blob].holder == d.node && !d.crash[d.node] {
		delete(d.leases, blob)
	}
	return nil
}

func (n *notary) holder(blob oci.Digest) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.leases[blob]; time.Now().Before(g.until) {
		return g.holder
	}
	return ""
}

// after answers after a moment.
func after(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error { return pause(ctx, d) }
}

// A split is two owners of every blob, a and b, whose views are frozen apart, and further nodes that go by either view.
// What owners know of each other's blobs is nothing, and they are sure of it.
type split struct {
	*town
	*notary
	a, b   *house
	others []*house
	read   map[string]*atomic.Int64 // bytes from the upstream, by node
}

// newSplit is a split in which n nodes go by b's view, and n by a's.
func newSplit(t *testing.T, n int, answer func(context.Context) error) *split {
	s := &split{town: newTown(t), read: make(map[string]*atomic.Int64)}
	if answer != nil {
		s.notary = &notary{leases: make(map[oci.Digest]granted), answer: answer, crash: make(map[string]bool)}
	}
	s.parts = func(id string, p *Parts, _ *Config) {
		if s.notary != nil {
			p.Lease = deed{s.notary, id}
		}
		s.read[id] = &atomic.Int64{}
		p.Upstream = metered{s.up, s.read[id]}
	}
	s.a, s.b = s.build("a", t.TempDir(), true), s.build("b", t.TempDir(), true)
	all := []*house{s.a, s.b}
	for i := range 2 * n {
		h := s.build(fmt.Sprintf("c%d", i), t.TempDir(), true)
		s.others, all = append(s.others, h), append(all, h)
	}
	for i, h := range all {
		h.known.set(all[i%2:i%2+1], all...)
	}
	time.Sleep(settleWithin + time.Second)
	if !s.a.holders.settled() || !s.b.holders.settled() {
		t.Fatal("the owners would ask all members")
	}
	return s
}

// metered counts what one node reads from the upstream.
type metered struct {
	*shelf
	n *atomic.Int64
}

func (m metered) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (Body, error) {
	body, err := m.shelf.Blob(ctx, repo, d, off, n)
	if err == nil {
		body.ReadCloser = struct {
			*countedReader
			nopCloser
		}{&countedReader{body.ReadCloser, m.n, 0}, nopCloser{}}
	}
	return body, err
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// blob is one of n bytes that the upstream has.
func (s *split) blob(n int, seed uint64) ([]byte, oci.Digest) {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(data)
	d := oci.FromBytes(oci.SHA256, data)
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	s.up.blobs[d] = data
	return data, d
}

// getAll has nodes ask for a blob, each when it says, and wants all to get it.
func (s *split) getAll(d oci.Digest, data []byte, when map[*house]time.Duration) {
	s.t.Helper()
	var group sync.WaitGroup
	for h, delay := range when {
		group.Go(func() {
			time.Sleep(delay)
			if got, err := h.get(s.t.Context(), d); err != nil || !bytes.Equal(got, data) {
				s.t.Errorf("get at %s = %d bytes, %v; want the blob", h.cfg.Self.ID, len(got), err)
			}
		})
	}
	group.Wait()
}
