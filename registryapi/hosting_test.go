package registryapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

const hostedPrefix = "farm.internal"

// farm is a Hosting that keeps blobs in a real store and all else in maps. Upstream names are those of a memory.
type farm struct {
	*memory
	store *blobstore.Store

	noQuorum atomic.Bool

	mu    sync.Mutex
	repos map[oci.Repository]*hostedRepo
}

type hostedRepo struct {
	tags      map[string]oci.Digest
	manifests map[oci.Digest]registryapi.Pushed
	blobs     map[oci.Digest]bool
}

func newFarm(t testing.TB, change func(*blobstore.Config)) *farm {
	t.Helper()
	cfg := blobstore.Default(t.TempDir())
	if change != nil {
		change(&cfg)
	}
	store, err := blobstore.Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &farm{memory: newMemory(), store: store, repos: map[oci.Repository]*hostedRepo{}}
}

func hostedConfig() registryapi.Config {
	cfg := testConfig()
	cfg.Names.HostedPrefix = hostedPrefix
	return cfg
}

// serveFarm runs a door to f on a loopback address until the test ends.
func serveFarm(t testing.TB, cfg registryapi.Config, f *farm) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	cfg.Listen = []string{server.Listener.Addr().String()}
	server.Config = registryapi.NewServer(cfg, newHostedDoor(t, cfg, f), quiet())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func newHostedDoor(t testing.TB, cfg registryapi.Config, f *farm) *registryapi.Handler {
	t.Helper()
	door, err := registryapi.NewHosting(cfg, f, farmLists{f}, quiet(), nil)
	if err != nil {
		t.Fatalf("NewHosting: %v", err)
	}
	return door
}

func (f *farm) Prefix() string { return hostedPrefix }

// at calls do with repo's content, which is made when it is missing and create is set.
func (f *farm) at(repo oci.Repository, create bool, do func(*hostedRepo) error) error {
	if f.noQuorum.Load() {
		return registryapi.ErrNoQuorum
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.repos[repo]
	if h == nil && !create {
		return oci.ErrNameUnknown
	}
	if h == nil {
		h = &hostedRepo{map[string]oci.Digest{}, map[oci.Digest]registryapi.Pushed{}, map[oci.Digest]bool{}}
		f.repos[repo] = h
	}
	return do(h)
}

func (f *farm) linked(repo oci.Repository, d oci.Digest) error {
	return f.at(repo, false, func(h *hostedRepo) error {
		if !h.blobs[d] {
			return fmt.Errorf("blob %s: %w", d, oci.ErrNotFound)
		}
		return nil
	})
}

func (f *farm) link(repo oci.Repository, d oci.Digest) error {
	return f.at(repo, true, func(h *hostedRepo) error {
		h.blobs[d] = true
		return nil
	})
}

type farmUpload struct {
	*blobstore.Upload
	farm *farm
}

func (u farmUpload) Append(ctx context.Context, r io.Reader) (int64, error) {
	n, err := u.Upload.Append(ctx, r)
	return n, translated(err)
}

func (u farmUpload) Commit(ctx context.Context, d oci.Digest) error {
	repo := u.Repository()
	if err := u.Upload.Commit(ctx, d, blobstore.Origin{Repository: repo, Hosted: true}); err != nil {
		return translated(err)
	}
	return u.farm.link(repo, d)
}

func translated(err error) error {
	switch {
	case errors.Is(err, blobstore.ErrNotKept):
		return fmt.Errorf("%w: %w", registryapi.ErrNoSpace, err)
	case errors.Is(err, blobstore.ErrTooManyUploads):
		return fmt.Errorf("%w: %w", registryapi.ErrBusy, err)
	}
	return err
}

func (f *farm) Start(_ context.Context, repo oci.Repository, algorithm string) (registryapi.Upload, error) {
	u, err := f.store.StartUpload(repo, algorithm)
	if err != nil {
		return nil, translated(err)
	}
	return farmUpload{u, f}, nil
}

func (f *farm) Upload(_ context.Context, repo oci.Repository, id string) (registryapi.Upload, error) {
	u, err := f.store.Upload(id)
	if err != nil {
		return nil, err
	}
	if u.Repository() != repo {
		_ = u.Close()
		return nil, oci.ErrNotFound
	}
	return farmUpload{u, f}, nil
}

func (f *farm) Mount(_ context.Context, repo, from oci.Repository, d oci.Digest) (bool, error) {
	if from != (oci.Repository{}) {
		if err := f.linked(from, d); err != nil {
			return false, err
		}
		return true, f.link(repo, d)
	}
	f.mu.Lock()
	known := slices.ContainsFunc(slices.Collect(maps.Values(f.repos)), func(h *hostedRepo) bool { return h.blobs[d] })
	f.mu.Unlock()
	if !known {
		return false, nil
	}
	return true, f.link(repo, d)
}

func (f *farm) PutManifest(ctx context.Context, repo oci.Repository, m registryapi.Pushed) error {
	return f.at(repo, true, func(h *hostedRepo) error {
		var missing []oci.Digest
		for _, d := range m.Manifest.Blobs() {
			if len(d.URLs) == 0 && !h.blobs[d.Digest] {
				missing = append(missing, d.Digest)
			}
		}
		for _, d := range m.Manifest.Manifests {
			if _, ok := h.manifests[d.Digest]; !ok {
				missing = append(missing, d.Digest)
			}
		}
		if len(missing) > 0 {
			return &registryapi.MissingError{Digests: missing}
		}
		if err := f.store.Put(ctx, m.Digest, m.Raw, blobstore.Origin{Repository: repo, MediaType: m.MediaType, Hosted: true}); err != nil {
			return err
		}
		h.manifests[m.Digest] = m
		for _, tag := range m.Tags {
			h.tags[tag] = m.Digest
		}
		return nil
	})
}

func (f *farm) DeleteTag(_ context.Context, repo oci.Repository, tag string) error {
	return f.at(repo, false, func(h *hostedRepo) error {
		if _, ok := h.tags[tag]; !ok {
			return oci.ErrNotFound
		}
		delete(h.tags, tag)
		return nil
	})
}

func (f *farm) DeleteManifest(_ context.Context, repo oci.Repository, d oci.Digest) error {
	return f.at(repo, false, func(h *hostedRepo) error {
		if _, ok := h.manifests[d]; !ok {
			return oci.ErrNotFound
		}
		delete(h.manifests, d)
		maps.DeleteFunc(h.tags, func(_ string, to oci.Digest) bool { return to == d })
		return nil
	})
}

func (f *farm) DeleteBlob(_ context.Context, repo oci.Repository, d oci.Digest) error {
	return f.at(repo, false, func(h *hostedRepo) error {
		if !h.blobs[d] {
			return oci.ErrNotFound
		}
		delete(h.blobs, d)
		return nil
	})
}

// pageAfter is at most n of all after last, in order.
func pageAfter(all []string, n int, last string) ([]string, bool) {
	slices.Sort(all)
	at, found := slices.BinarySearch(all, last)
	if found {
		at++
	}
	rest := all[at:]
	return rest[:min(n, len(rest))], len(rest) > n
}

func (f *farm) Repositories(_ context.Context, n int, last string) ([]string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for repo := range f.repos {
		all = append(all, repo.Path)
	}
	page, more := pageAfter(all, n, last)
	return page, more, nil
}

// Listing of hosted repositories. The Registry's methods of these names are those of upstream ones.
type farmLists struct{ *farm }

func (f farmLists) Tags(_ context.Context, repo oci.Repository, n int, last string) (page []string, more bool, err error) {
	err = f.at(repo, false, func(h *hostedRepo) error {
		page, more = pageAfter(slices.Collect(maps.Keys(h.tags)), n, last)
		return nil
	})
	return page, more, err
}

func (f farmLists) Referrers(_ context.Context, repo oci.Repository, d oci.Digest, artifactType string) (found []registryapi.Referrer, err error) {
	err = f.at(repo, false, func(h *hostedRepo) error {
		for _, m := range h.manifests {
			r := m.Referrer()
			if m.Manifest.Subject != nil && m.Manifest.Subject.Digest == d && (artifactType == "" || artifactType == r.ArtifactType) {
				found = append(found, r)
			}
		}
		return nil
	})
	return found, err
}

func (f *farm) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (one registryapi.Manifest, err error) {
	if repo.Upstream != hostedPrefix {
		return f.memory.Manifest(ctx, repo, ref, accept, headOnly)
	}
	err = f.at(repo, false, func(h *hostedRepo) error {
		d := ref.Digest
		if ref.Tag != "" {
			d = h.tags[ref.Tag]
		}
		m, ok := h.manifests[d]
		if !ok {
			return oci.ErrNotFound
		}
		one = registryapi.Manifest{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)), Raw: m.Raw}
		return nil
	})
	return one, err
}

type storeBlob struct {
	*blobstore.Reader
	blob *blobstore.Blob
}

func (b storeBlob) Close() error { return errors.Join(b.Reader.Close(), b.blob.Close()) }

func (f *farm) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, ranged bool) (registryapi.Blob, error) {
	if repo.Upstream != hostedPrefix {
		return f.memory.Blob(ctx, repo, d, ranged)
	}
	if err := f.linked(repo, d); err != nil {
		return nil, err
	}
	b, err := f.store.Open(d)
	if err != nil {
		return nil, err
	}
	r, err := b.NewReader()
	return storeBlob{r, b}, err
}

func (f *farm) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	if repo.Upstream != hostedPrefix {
		return f.memory.StatBlob(ctx, repo, d)
	}
	if err := f.linked(repo, d); err != nil {
		return 0, err
	}
	info, err := f.store.Stat(d)
	return info.Size, err
}
