package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
)

// Blob serves the registry door: from disk, or as it arrives.
func (n *Node) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, ranged bool) (registryapi.Blob, error) {
	if n.hosts(repo) {
		return n.hostedBlob(ctx, repo, d, ranged)
	}
	if _, err := n.upstreams.of(repo); err != nil {
		return nil, err
	}
	since := time.Now()
	b, err := forCaller(ctx, n, repo, probe{reference: d.String(), blob: true}, func() (registryapi.Blob, error) {
		return n.mirroredBlob(ctx, repo, d, ranged)
	}, func(b registryapi.Blob) { _ = b.Close() })
	return b, evenly(ctx, since, err)
}

// mirroredBlob is a blob of an upstream, for a client that may read the repository.
func (n *Node) mirroredBlob(ctx context.Context, repo oci.Repository, d oci.Digest, ranged bool) (registryapi.Blob, error) {
	if !ranged {
		n.prefetch.fire(repo, d)
	}
	if n.prefetch.sizeOf(repo, d) == 0 && !n.links.has(repo, d) {
		defer n.learnStanding(ctx, repo, d)
	}
	if stored, err := n.storedBlob(ctx, repo, d); err == nil || !errors.Is(err, oci.ErrNotFound) {
		return stored, err
	}
	if ranged {
		return n.rangedBlob(ctx, repo, d)
	}
	return n.arrivingBlob(ctx, repo, d)
}

// learnStanding hears from the node that has asked the upstream for a blob who may read its repository now: a blob that no
// manifest names here may be one that came after everybody could.
func (n *Node) learnStanding(ctx context.Context, repo oci.Repository, d oci.Digest) {
	if _, known := n.standings.of(repo); known {
		n.standingByBlob(ctx, repo, probe{reference: d.String(), blob: true})
	}
}

// storedBlob opens a blob that is whole here, once repo is known to have it; oci.ErrNotFound when it is not here.
func (n *Node) storedBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (registryapi.Blob, error) {
	blob, err := n.store.Open(d)
	if err != nil {
		if !errors.Is(err, oci.ErrNotFound) {
			n.log.Warn("blob not readable, fetching it anew", slog.String("digest", d.String()), slog.Any("error", err))
		}
		return nil, oci.ErrNotFound
	}
	if err := n.confirm(ctx, repo, d); err != nil {
		_ = blob.Close()
		return nil, err
	}
	reader, err := blob.NewReader()
	if err != nil {
		_ = blob.Close()
		return nil, err
	}
	return &diskBlob{n: n, blob: blob, reader: reader, repo: repo}, nil
}

// arrivingBlob joins the fetch of a blob.
func (n *Node) arrivingBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (registryapi.Blob, error) {
	if err := n.awaitFarm(ctx); err != nil {
		return nil, err
	}
	h, err := n.engine.Get(transfer.Want{Repository: repo, Digest: d, Size: n.prefetch.sizeOf(repo, d)})
	if err != nil {
		return nil, err
	}
	if err := n.vouched(ctx, h, repo, d); err != nil {
		_ = h.Close()
		return nil, err
	}
	// The first piece first: a list that turns out false before anything was said to the client costs it nothing.
	if err := h.Ready(ctx, 0); err != nil {
		_ = h.Close()
		return nil, err
	}
	size, err := h.Size(ctx)
	if err != nil {
		_ = h.Close()
		return nil, err
	}
	n.prefetch.given(d)
	return &arriving{n: n, handle: h, repo: repo, digest: d, size: size}, nil
}

// vouched waits until repo itself has confirmed the blob that is being fetched.
func (n *Node) vouched(ctx context.Context, h *transfer.Handle, repo oci.Repository, d oci.Digest) error {
	if n.links.has(repo, d) {
		return nil
	}
	if h.Repository() == repo {
		ok, err := h.Vouched(ctx)
		if err != nil {
			return err
		}
		if ok {
			n.links.note(repo, d, -1)
			return nil
		}
	}
	return n.confirm(ctx, repo, d)
}

// confirm makes sure that repo has the blob: a manifest of it may name any digest, and knowing a digest is no right.
func (n *Node) confirm(ctx context.Context, repo oci.Repository, d oci.Digest) error {
	if n.links.has(repo, d) {
		return nil
	}
	_, err := n.statBlob(ctx, repo, d)
	return err
}

// statBlob asks repo for a blob's size, through the blob's owner, once for the whole farm.
func (n *Node) statBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	v, err := n.flights.do(ctx, "confirm "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		if err := n.awaitFarm(ctx); err != nil {
			return int64(0), err
		}
		q := transfer.Question{Kind: transfer.Confirm, Repository: repo, Reference: d.String()}
		a, err := n.ask(ctx, d.String(), q, func(ctx context.Context) (transfer.Answer, error) {
			size, err := n.confirmHere(ctx, repo, d)
			return transfer.Answer{Digest: d, Size: size}, err
		})
		if err != nil {
			return int64(0), err
		}
		n.links.note(repo, d, a.Size)
		return a.Size, nil
	})
	if err != nil {
		return 0, err
	}
	return v.(int64), nil
}

// confirmHere asks the upstream whether repo has a blob, by a HEAD, unless that is known here, or, when the upstream
// cannot be asked, to another node.
func (n *Node) confirmHere(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	if n.links.has(repo, d) {
		return n.linkedSize(repo, d), nil
	}
	v, err := n.flights.do(ctx, "upstream stat "+repo.String()+"@"+d.String(), func(ctx context.Context) (any, error) {
		size, err := n.upstreams.StatBlob(ctx, repo, d)
		if err != nil && cannotAsk(err) {
			if size, ok := n.confirmedElsewhere(ctx, repo, d); ok {
				return size, nil
			}
		}
		return size, err
	})
	if err != nil {
		return 0, err
	}
	return v.(int64), nil
}

// linkedSize is the size in bytes of a blob that repo has confirmed, -1 when it is not known.
func (n *Node) linkedSize(repo oci.Repository, d oci.Digest) int64 {
	if size, ok := n.links.size(repo, d); ok {
		return size
	}
	return -1
}

// StatBlob serves the registry door. It never makes the farm fetch the blob.
func (n *Node) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	if n.hosts(repo) {
		return n.hostedStat(ctx, repo, d)
	}
	if _, err := n.upstreams.of(repo); err != nil {
		return 0, err
	}
	since := time.Now()
	size, err := forCaller(ctx, n, repo, probe{reference: d.String(), blob: true}, func() (int64, error) {
		return n.mirroredStat(ctx, repo, d)
	}, keep)
	return size, evenly(ctx, since, err)
}

// mirroredStat is the size of a blob of an upstream, for a client that may read the repository.
func (n *Node) mirroredStat(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	if size, ok := n.links.size(repo, d); ok {
		return size, nil
	}
	size, err := n.statBlob(ctx, repo, d)
	if err == nil && size < 0 {
		size, err = n.upstreams.StatBlob(ctx, repo, d)
	}
	return size, err
}

// A diskBlob is served from the store.
type diskBlob struct {
	n      *Node
	blob   *blobstore.Blob
	reader *blobstore.Reader
	repo   oci.Repository
	rest   *transfer.Handle // takes over when a piece on disk turns out to be wrong
}

func (b *diskBlob) Size() int64 { return b.blob.Size() }

func (b *diskBlob) Ready(context.Context, int64) error { return nil }

// WriteRange sends from disk. When a piece has rotted it is fetched anew while the client waits, and the answer goes
// on from where it was.
func (b *diskBlob) WriteRange(ctx context.Context, w io.Writer, off, size int64) error {
	sent := &position{Writer: w}
	err := b.reader.WriteRange(ctx, sent.target(), off, size)
	given := tally{transfer.FromDisk: sent.n}
	if _, rotten := errors.AsType[*oci.MismatchError](err); rotten && b.rest == nil {
		err = b.heal(ctx, w, off+sent.n, size-sent.n, &given)
	}
	b.n.metrics.count(given)
	return err
}

// heal sends the rest from a fetch, which needs only what has rotted, and adds it to given. Without its place in the
// ring the node would fetch from the upstream what the farm has.
func (b *diskBlob) heal(ctx context.Context, w io.Writer, off, size int64, given *tally) error {
	if err := b.n.awaitFarm(ctx); err != nil {
		return err
	}
	b.n.metrics.healed.Inc()
	h, err := b.n.engine.Get(transfer.Want{Repository: b.repo, Digest: b.blob.Digest(), Size: b.blob.Size()})
	if err != nil {
		return err
	}
	b.rest = h
	if got, err := h.Size(ctx); err != nil || got != b.blob.Size() {
		return errors.Join(oci.ErrUnavailable, err)
	}
	if err := h.Ready(ctx, off); err != nil {
		return err
	}
	from, sent := h.Source(), &position{Writer: w}
	err = h.WriteRange(ctx, sent.target(), off, size)
	given[from] += sent.n
	return err
}

func (b *diskBlob) Close() error {
	if b.rest != nil {
		_ = b.rest.Close()
	}
	return errors.Join(b.reader.Close(), b.blob.Close())
}

// arriving is served while it is fetched.
type arriving struct {
	n      *Node
	handle *transfer.Handle
	repo   oci.Repository
	digest oci.Digest
	size   int64
	once   sync.Once
}

func (a *arriving) Size() int64 { return a.size }

func (a *arriving) Ready(ctx context.Context, off int64) error { return a.handle.Ready(ctx, off) }

func (a *arriving) WriteRange(ctx context.Context, w io.Writer, off, size int64) error {
	from, sent := a.handle.Source(), &position{Writer: w}
	err := a.handle.WriteRange(ctx, sent.target(), off, size)
	var given tally
	given[from] = sent.n
	a.n.metrics.count(given)
	return err
}

func (a *arriving) Close() error {
	a.once.Do(func() { a.n.links.note(a.repo, a.digest, a.size) })
	return a.handle.Close()
}

// A position counts what a response has taken without standing between a file and the socket.
type position struct {
	io.Writer
	n int64
}

// target is the writer to give away: one that reads from a file if the response does.
func (p *position) target() io.Writer {
	if r, ok := p.Writer.(io.ReaderFrom); ok {
		return &readingPosition{position: p, from: r}
	}
	return p
}

func (p *position) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.n += int64(n)
	return n, err
}

// A readingPosition hands files on to the response, whose kernel sends them.
type readingPosition struct {
	*position
	from io.ReaderFrom
}

func (p *readingPosition) ReadFrom(r io.Reader) (int64, error) {
	n, err := p.from.ReadFrom(r)
	p.n += n
	return n, err
}
