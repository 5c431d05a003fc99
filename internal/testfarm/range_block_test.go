package testfarm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
)

func TestARangeOfABlobThatAnUnknownHolderHasCostsTheUpstreamNothing(t *testing.T) {
	t.Parallel()
	const size = 6 * mib
	data, d := ownedBy(t, "owner", "holder", size)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	holder := live(t, "holder", up) // knows of no owner, so it announces nothing
	if _, err := holder.get(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	owner := live(t, "owner", up, holder.self)
	before := up.sent.Load()
	for off := int64(0); off < size; off += transfer.BlockSize {
		if _, err := owner.block(t.Context(), d, size, off); !errors.Is(err, transfer.ErrSwarm) {
			t.Errorf("Block(%d) beside a holder = %v; want ErrSwarm", off, err)
		}
	}
	if got, err := owner.get(t.Context(), d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get beside a holder = %d bytes, %v", len(got), err)
	}
	if got := up.sent.Load() - before; got != 0 {
		t.Errorf("upstream sent %d bytes of a blob that a live node holds; want none", got)
	}
}

func TestASuccessorThatIsAskedForARangeAsksWhoHasTheBlob(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	up := &shelf{blobs: map[oci.Digest][]byte{}}
	data, d := thirdOwned(t, "owner", "asker", "successor", size)
	up.blobs[d] = data
	owner := gone(t, "owner")
	holder := live(t, "holder", up)
	if _, err := holder.get(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	// The successor itself does not find the owner lost: only the node that asks it does.
	successor := live(t, "successor", up, owner, holder.self)
	asker := live(t, "asker", up, owner, successor.self)
	before := up.sent.Load()
	if _, err := asker.block(t.Context(), d, size, 2*mib); !errors.Is(err, transfer.ErrSwarm) {
		t.Errorf("Block through a successor beside a holder = %v; want ErrSwarm", err)
	}
	if got := up.sent.Load() - before; got != 0 {
		t.Errorf("upstream sent %d bytes of a blob that a live node holds; want none", got)
	}
}

func TestManyBlocksOfABlobAskTheMembersOnce(t *testing.T) {
	t.Parallel()
	const size = 6 * mib
	data, d := ownedBy(t, "owner", "asked", size)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	asked := &census{id: "asked"}
	owner := live(t, "owner", up, asked.perform(t))
	for off := int64(0); off < size; off += transfer.BlockSize {
		got, err := owner.block(t.Context(), d, size, off)
		if err != nil || !bytes.Equal(got, data[off:off+transfer.BlockSize]) {
			t.Errorf("Block(%d) = %d bytes, %v", off, len(got), err)
		}
	}
	if got := asked.holdings.Load(); got != 1 {
		t.Errorf("a member was asked %d times for %d blocks; want once", got, size/transfer.BlockSize)
	}
}

func TestWithoutFallbackNoBlockIsReadByANodeThatReachesNobody(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	data, d := ownedBy(t, "owner", "asker", size)
	for name, c := range map[string]struct {
		fallback bool
		want     error
	}{"never": {false, oci.ErrUnavailable}, "direct": {true, nil}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
			asker := liveAs(t, "asker", up, func(c2 *transfer.Config, _ *transfer.Parts) {
				c2.UpstreamFallback = c.fallback
			}, gone(t, "owner"))
			_, err := asker.block(t.Context(), d, size, mib)
			if !errors.Is(err, c.want) {
				t.Errorf("Block of a node that reaches nobody = %v; want %v", err, c.want)
			}
			want := int64(0)
			if c.fallback {
				want = 1
			}
			if got := asker.Stats().Fallbacks; got != want || up.sent.Load() != want*mib {
				t.Errorf("%d fallbacks and %d bytes of the upstream; want %d and %d", got, up.sent.Load(), want, want*mib)
			}
		})
	}
}

func TestABlockWhoseOwnerCannotReachTheUpstreamComesFromItsSuccessor(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	data, d := thirdOwned(t, "owner", "asker", "successor", size)
	up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
	cutOff := func(_ *transfer.Config, p *transfer.Parts) { p.Upstream = noUpstream{} }
	owner := liveAs(t, "owner", up, cutOff)
	successor := live(t, "successor", up)
	asker := liveAs(t, "asker", up, cutOff, owner.self, successor.self)
	got, err := asker.block(t.Context(), d, size, mib)
	if err != nil || !bytes.Equal(got, data[mib:2*mib]) {
		t.Errorf("Block of an owner without its upstream = %d bytes, %v; want those that the successor reads", len(got), err)
	}
	if s := asker.Stats(); s.Lost != 0 {
		t.Errorf("%d nodes counted as lost; want none, the owner has answered", s.Lost)
	}
}

func TestARangeOfAnUpstreamWithoutRangesComesInOrder(t *testing.T) {
	t.Parallel()
	const size = 48 * mib
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	data := randomBytes(1801, size)
	d := put(t, f, 1801, size, "library/rangeless")
	f.Hub.MustFault(hub.Fault{Kind: hub.Blob, Ref: d.String(), Do: hub.NoRange})
	slow(f, d, 32*mib)
	var asks []func() error
	for i, n := range f.Nodes {
		for k := range 3 {
			off := int64(30+4*k+i) * mib
			asks = append(asks, func() error {
				r := n.Ask(t.Context(), http.MethodGet, "library/rangeless/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-%d", off, off+999))
				if r.Status != http.StatusPartialContent || !bytes.Equal(r.Body, data[off:off+1000]) {
					return fmt.Errorf("GET of a range at %d = %d, %d bytes, %w", off, r.Status, r.Size, r.Err)
				}
				return nil
			})
		}
	}
	atOnce(t, asks[0])
	atOnce(t, asks[1:]...)
	// The one answer without a range has cost what the kernels held before it was closed.
	if got := crossed(f, d); got > size+12*mib {
		t.Errorf("upstream sent %d bytes for six ranges of a blob of %d; want about the blob once", got, size)
	}
}

func TestBlocksCountAgainstUploadAndDownload(t *testing.T) {
	t.Parallel()
	const size = 12 * mib
	data, d := ownedBy(t, "owner", "asker", size)
	for name, limit := range map[string]struct{ owner, asker transfer.Config }{
		"upload":   {owner: transfer.Config{Upload: 4 * mib}},
		"download": {asker: transfer.Config{Download: 4 * mib}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := &shelf{blobs: map[oci.Digest][]byte{d: data}}
			owner := liveAs(t, "owner", up, func(c *transfer.Config, _ *transfer.Parts) { c.Upload = limit.owner.Upload })
			asker := liveAs(t, "asker", up, func(c *transfer.Config, _ *transfer.Parts) { c.Download = limit.asker.Download }, owner.self)
			start := time.Now()
			for off := int64(0); off < size; off += transfer.BlockSize {
				if _, err := asker.block(t.Context(), d, size, off); err != nil {
					t.Fatal(err)
				}
			}
			// 5 MiB go at once, which is the largest message; the others at 4 MiB a second.
			if took := time.Since(start); took < 1500*time.Millisecond {
				t.Errorf("12 MiB of blocks took %v at 4 MiB/s; want the limit kept", took)
			}
		})
	}
}

func TestABlockIsNotReadOnAfterTheEngineHasStopped(t *testing.T) {
	t.Parallel()
	const size = 4 * mib
	data, d := ownedBy(t, "owner", "other", size)
	up := &hanging{shelf: &shelf{blobs: map[oci.Digest][]byte{d: data}}, entered: make(chan struct{}, 8)}
	store, err := blobstore.Open(blobstore.Default(t.TempDir()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	cfg := transfer.Default()
	cfg.Self = transfer.Node{ID: "owner", Boot: "boot", Address: "127.0.0.1:1"}
	e, err := transfer.New(cfg, transfer.Parts{
		Store: store, Directory: directoryOf("owner"), Upstream: up, Documents: up,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	owner := &honest{Engine: e}
	ctx, cancel := context.WithCancel(t.Context())
	stopped, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(stopped)
		_ = e.Run(ctx)
	}()
	go func() {
		_, err := owner.block(t.Context(), d, size, mib)
		failed <- err
	}()
	<-up.entered
	cancel()
	<-stopped
	if got := up.reading.Load(); got != 0 {
		t.Errorf("%d blocks are being read after Run has returned; want none", got)
	}
	if err := <-failed; err == nil {
		t.Error("Block of an engine that stopped = nil; want an error")
	}
	if _, err := owner.block(t.Context(), d, size, 2*mib); !errors.Is(err, transfer.ErrStopped) {
		t.Errorf("Block of a stopped engine = %v; want ErrStopped", err)
	}
}
