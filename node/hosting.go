package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/copies"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

const (
	// leftoverFor is how long an upload whose bytes are whole here, but which could not be kept as promised, is
	// remembered, so that its client may ask again without sending it all again.
	leftoverFor  = 10 * time.Minute
	maxLeftovers = 4096
	// longPut is well below the shortest time for which what nobody names is kept.
	longPut = 2 * time.Minute
)

// hosting takes what is pushed to the farm itself: the bytes go to the store and to as many other nodes as was promised,
// and only then their name into the catalog. It implements registryapi.Hosting.
type hosting struct {
	n         *Node
	leftovers *otter.Cache[string, leftover] // by the upload's id
}

// A leftover is a blob that a client has sent, and that is whole here.
type leftover struct {
	repo   oci.Repository
	digest oci.Digest
	size   int64
}

func newHosting(n *Node) *hosting {
	return &hosting{n: n, leftovers: otter.Must(&otter.Options[string, leftover]{
		MaximumSize: maxLeftovers, ExpiryCalculator: otter.ExpiryWriting[string, leftover](leftoverFor),
	})}
}

// openCatalog opens this node's part in the catalog.
func (n *Node) openCatalog() error {
	n.belonging = openBelonging(n.cfg.DataDir, n.store, n.log)
	cfg := n.cfg.Catalog
	cfg.Former = n.belonging.catalog()
	cfg.Dir, cfg.Node, cfg.Boot, cfg.Seeds = filepath.Join(n.cfg.DataDir, "catalog"), n.id, n.boot, n.cfg.Gossip.Seeds
	var err error
	n.catalog, err = catalog.Open(cfg, catalog.Parts{
		Farm: newCatalogFarm(n.gossip), Streams: n.raft, Dial: n.dialStream,
		// The engine is made after the catalog, which it asks for leases, and before either runs.
		Conn: func(address string) (grpc.ClientConnInterface, error) { return n.engine.Conn(address) },
	}, n.log)
	return err
}

// openCopies sets up what keeps hosted content on as many nodes as was promised.
func (n *Node) openCopies() error {
	cfg, h := copies.Default(n.id), n.cfg.Hosted
	cfg.Copies, cfg.MinCopies = h.Copies, h.MinCopies
	cfg.RepairRate, cfg.CompareEvery, cfg.Grace = h.RepairRate, h.CompareEvery, h.Grace
	var err error
	n.copies, err = copies.New(cfg, copies.Parts{
		Store: n.store, Farm: copiesFarm{n}, Catalog: copiesCatalog{n}, Conn: n.engine.Conn, Stored: n.engine.Stored, Removed: n.engine.Dropped,
	}, n.log)
	return err
}

// tendHosted does for hosted content what is done now and then, until ctx ends.
func (n *Node) tendHosted(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return n.collectRegularly(ctx) })
	g.Go(func() error { return n.belonging.run(ctx, n.catalog) })
	return g.Wait()
}

// hosts tells whether a repository is the farm's own.
func (n *Node) hosts(repo oci.Repository) bool {
	return n.cfg.Hosted.Prefix != "" && repo.Upstream == n.cfg.Hosted.Prefix
}

// Prefix implements registryapi.Hosting.
func (h *hosting) Prefix() string { return h.n.cfg.Hosted.Prefix }

// Start implements registryapi.Uploader. Without a catalog that can decide nothing is taken: the client is told before
// it sends gigabytes.
func (h *hosting) Start(ctx context.Context, repo oci.Repository, algorithm string) (registryapi.Upload, error) {
	if err := h.decides(ctx); err != nil {
		return nil, err
	}
	u, err := h.n.store.StartUpload(repo, algorithm)
	if err != nil {
		return nil, fromStore(err)
	}
	h.n.copies.Follow(ctx, u.ID())
	return &pushedBlob{u, h}, nil
}

// decides is nil when the catalog can decide now and this node has its place in the farm.
func (h *hosting) decides(ctx context.Context) error {
	if err := h.n.awaitFarm(ctx); err != nil {
		return err
	}
	_, err := h.n.catalog.Index(ctx)
	return fromCatalog(err)
}

// Upload implements registryapi.Uploader.
func (h *hosting) Upload(_ context.Context, repo oci.Repository, id string) (registryapi.Upload, error) {
	if l, ok := h.leftovers.GetIfPresent(id); ok && l.repo == repo {
		return &sentBlob{h, id, l}, nil
	}
	u, err := h.n.store.Upload(id)
	if err != nil {
		return nil, fromStore(err)
	}
	if u.Repository() != repo {
		return nil, errors.Join(oci.ErrNotFound, u.Close())
	}
	return &pushedBlob{u, h}, nil
}

// A pushedBlob is an upload on its way in.
type pushedBlob struct {
	*blobstore.Upload
	h *hosting
}

func (u *pushedBlob) Append(ctx context.Context, r io.Reader) (int64, error) {
	n, err := u.Upload.Append(ctx, r)
	return n, fromStore(err)
}

// Commit makes the bytes a blob here, then on as many nodes as was promised, then known in its repository.
func (u *pushedBlob) Commit(ctx context.Context, d oci.Digest) error {
	id, l := u.ID(), leftover{u.Repository(), d, u.Offset()}
	u.h.n.copies.Expect(d)
	if err := u.Upload.Commit(ctx, d, blobstore.Origin{Hosted: true}); err != nil {
		return fromStore(err)
	}
	u.h.n.copies.Followed(ctx, id, d)
	u.h.leftovers.Set(id, l)
	return u.h.publish(ctx, id, l)
}

func (u *pushedBlob) Cancel() error {
	u.h.n.copies.Forget(u.ID())
	return u.Upload.Cancel()
}

// publish keeps a blob that is whole here as promised, and links it.
func (h *hosting) publish(ctx context.Context, id string, l leftover) error {
	began := time.Now()
	if err := h.n.copies.Put(ctx, l.digest, nil); err != nil {
		return fromCopies(err)
	}
	if time.Since(began) > longPut { // the first copy may count as unused before the last one was there
		if err := h.n.copies.Hold(ctx, l.digest); err != nil {
			return fromCopies(err)
		}
	}
	if _, err := h.apply(ctx, catalog.LinkBlob{Repository: l.repo.Path, Digest: l.digest, Size: l.size}); err != nil {
		return err
	}
	h.leftovers.Invalidate(id)
	h.n.links.note(l.repo, l.digest, l.size)
	h.n.engine.Stored(l.digest)
	return nil
}

// A sentBlob is an upload whose bytes are whole here, opened again because it could not be kept.
type sentBlob struct {
	h  *hosting
	id string
	leftover
}

func (s *sentBlob) ID() string    { return s.id }
func (s *sentBlob) Offset() int64 { return s.size }

// Append takes nothing more; a client that asks again sends nothing.
func (s *sentBlob) Append(_ context.Context, r io.Reader) (int64, error) {
	var one [1]byte
	if n, _ := io.ReadFull(r, one[:]); n > 0 {
		return 0, fmt.Errorf("upload %s is whole: %w", s.id, oci.ErrTooLarge)
	}
	return 0, nil
}

func (s *sentBlob) Commit(ctx context.Context, d oci.Digest) error {
	if d != s.digest {
		return &oci.MismatchError{Digest: d, Piece: -1}
	}
	return s.h.publish(ctx, s.id, s.leftover)
}

func (s *sentBlob) Cancel() error {
	s.h.leftovers.Invalidate(s.id)
	return nil // a blob that nothing names is collected
}

func (s *sentBlob) Close() error { return nil }

// Mount implements registryapi.Uploader. Its copies count as used before they are linked, so that no collection takes
// them away in between.
func (h *hosting) Mount(ctx context.Context, repo, from oci.Repository, d oci.Digest) (bool, error) {
	if err := h.decides(ctx); err != nil {
		return false, err
	}
	if from != (oci.Repository{}) && !h.n.hosts(from) {
		return false, nil
	}
	size, ok, err := h.mountable(ctx, from, d)
	if err != nil || !ok {
		return false, err
	}
	if err := h.n.copies.Hold(ctx, d); err != nil {
		return false, nil // the client sends it
	}
	if _, err := h.apply(ctx, catalog.LinkBlob{Repository: repo.Path, Digest: d, Size: size}); err != nil {
		return false, err
	}
	h.n.links.note(repo, d, size)
	return true, nil
}

// mountable is the size of a blob that from, or with the zero repository any one, has.
func (h *hosting) mountable(ctx context.Context, from oci.Repository, d oci.Digest) (size int64, ok bool, err error) {
	if from != (oci.Repository{}) {
		l, ok, err := h.n.catalog.Link(ctx, from.Path, d, false)
		return l.Size, ok, fromCatalog(err)
	}
	info, err := h.n.store.Stat(d)
	if err != nil {
		return 0, false, nil // its size is not at hand
	}
	ok, err = h.n.catalog.Holds(ctx, d, false)
	return info.Size, ok, fromCatalog(err)
}

// apply has the catalog do something, and is the reason when it was refused.
func (h *hosting) apply(ctx context.Context, do catalog.Action) (catalog.Result, error) {
	r, err := h.n.catalog.Apply(ctx, catalog.Command{Do: do})
	if err == nil {
		err = r.Err
	}
	return r, fromCatalog(err)
}

// fromCatalog says an error of the catalog in the words of the registry door.
func fromCatalog(err error) error {
	if missing, ok := errors.AsType[*catalog.MissingError](err); ok {
		return &registryapi.MissingError{Digests: missing.Blobs}
	}
	if errors.Is(err, catalog.ErrNoQuorum) || errors.Is(err, catalog.ErrRefused) {
		return fmt.Errorf("%w: %w", registryapi.ErrNoQuorum, err)
	}
	return err
}

// fromStore says an error of the store in the words of the registry door.
func fromStore(err error) error {
	switch {
	case errors.Is(err, blobstore.ErrNotKept):
		return fmt.Errorf("%w: %w", registryapi.ErrNoSpace, err)
	case errors.Is(err, blobstore.ErrTooManyUploads), errors.Is(err, blobstore.ErrBusy):
		return fmt.Errorf("%w: %w", registryapi.ErrBusy, err)
	}
	return err
}

// fromCopies says an error of the copies in the words of the registry door.
func fromCopies(err error) error {
	if errors.Is(err, copies.ErrTooFew) {
		return fmt.Errorf("%w: %w", oci.ErrUnavailable, err)
	}
	return fromStore(err)
}
