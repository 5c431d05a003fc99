package node

import (
	"errors"
	"log/slog"

	"github.com/maypok86/otter/v2"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// maxPending bounds the confirmations that are remembered for blobs that are not here.
const maxPending = 100_000

// A link says that a repository itself has confirmed that it has a blob; only then may the blob be read through it. A
// link is never made because a manifest names the blob: a manifest can name any digest.
type link struct {
	repo   oci.Repository
	digest oci.Digest
}

// links remembers confirmations: beside the blob in the store, and in memory for a blob that is not here (yet).
type links struct {
	store   *blobstore.Store
	pending *otter.Cache[link, int64] // the blob's size in bytes, -1 when it was not told
	log     *slog.Logger
}

func newLinks(store *blobstore.Store, log *slog.Logger) *links {
	return &links{
		store: store, log: log,
		pending: otter.Must(&otter.Options[link, int64]{MaximumSize: maxPending}),
	}
}

// note remembers that repo has confirmed d; size is -1 when it was not told.
func (l *links) note(repo oci.Repository, d oci.Digest, size int64) {
	err := l.store.Link(repo, d)
	switch {
	case err == nil:
		l.pending.Invalidate(link{repo, d})
	case errors.Is(err, oci.ErrNotFound):
		l.pending.Set(link{repo, d}, size)
	default:
		l.log.Warn("link not kept", slog.String("digest", d.String()), slog.Any("error", err))
		l.pending.Set(link{repo, d}, size)
	}
}

// forget is told that repo has d no more.
func (l *links) forget(repo oci.Repository, d oci.Digest) {
	l.pending.Invalidate(link{repo, d})
	if err := l.store.Unlink(repo, d); err != nil {
		l.log.Warn("link not removed", slog.String("digest", d.String()), slog.Any("error", err))
	}
}

// has tells whether repo has confirmed d.
func (l *links) has(repo oci.Repository, d oci.Digest) bool {
	if l.store.Linked(repo, d) {
		return true
	}
	size, ok := l.pending.GetIfPresent(link{repo, d})
	if ok {
		l.note(repo, d, size) // the blob may have come since
	}
	return ok
}

// size is the size in bytes of a blob that repo has confirmed, if it is known.
func (l *links) size(repo oci.Repository, d oci.Digest) (int64, bool) {
	if !l.has(repo, d) {
		return 0, false
	}
	if info, err := l.store.Stat(d); err == nil {
		return info.Size, true
	}
	size, ok := l.pending.GetIfPresent(link{repo, d})
	return size, ok && size >= 0
}
