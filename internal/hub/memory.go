package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// memory is a backend that keeps manifests in memory and blobs in memory or in files.
type memory struct {
	dir string // where pushed blobs go; empty: memory

	mu      sync.RWMutex
	blobs   map[digest.Digest]*blob
	repos   map[string]*repository
	uploads map[string]*upload
	next    int
}

type repository struct {
	blobs     map[digest.Digest]bool
	manifests map[digest.Digest]manifest
	tags      map[string]digest.Digest
}

type manifest struct {
	mediaType string
	raw       []byte
}

// blob is the bytes of a blob: data, or the file at path.
type blob struct {
	data []byte
	path string
	size int64
}

// open returns the bytes. Closing is the caller's.
func (b *blob) open() (io.ReadSeekCloser, error) {
	if b.path == "" {
		return nopCloser{bytes.NewReader(b.data)}, nil
	}
	return os.Open(b.path)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func newMemory(dir string) *memory {
	return &memory{
		dir: dir, blobs: map[digest.Digest]*blob{}, repos: map[string]*repository{}, uploads: map[string]*upload{},
	}
}

// repo returns a repository, made on first use. The lock is held by the caller.
func (m *memory) repo(name string) *repository {
	r := m.repos[name]
	if r == nil {
		r = &repository{
			blobs: map[digest.Digest]bool{}, manifests: map[digest.Digest]manifest{}, tags: map[string]digest.Digest{},
		}
		m.repos[name] = r
	}
	return r
}

// link puts a blob into a repository; one that is known already keeps its bytes.
func (m *memory) link(repo string, d digest.Digest, b *blob) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[d] == nil {
		m.blobs[d] = b
	}
	m.repo(repo).blobs[d] = true
}

func (m *memory) unlink(repo string, d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.repo(repo).blobs, d)
}

// mount links a blob of one repository into another and tells whether it was there.
func (m *memory) mount(repo, from string, d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	source := m.repos[from]
	if source == nil || !source.blobs[d] {
		return false
	}
	m.repo(repo).blobs[d] = true
	return true
}

func (m *memory) blob(repo string, d digest.Digest) *blob {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.repos[repo]
	if r == nil || !r.blobs[d] {
		return nil
	}
	return m.blobs[d]
}

func (m *memory) putManifest(repo, reference, mediaType string, raw []byte) (digest.Digest, error) {
	d := digest.FromBytes(raw)
	tag := reference
	if named, err := digest.Parse(reference); err == nil {
		if named.Algorithm().FromBytes(raw) != named {
			return "", fmt.Errorf("put manifest %s: its bytes are of %s", named, d)
		}
		d, tag = named, ""
	}
	if mediaType == "" {
		return "", errors.New("put manifest: no media type")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	r.manifests[d] = manifest{mediaType: mediaType, raw: raw}
	if tag != "" {
		r.tags[tag] = d
	}
	return d, nil
}

// manifest finds a manifest by tag or digest.
func (m *memory) manifest(repo, reference string) (manifest, digest.Digest, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.repos[repo]
	if r == nil {
		return manifest{}, "", false
	}
	d, err := digest.Parse(reference)
	if err != nil {
		d = r.tags[reference]
	}
	found, ok := r.manifests[d]
	return found, d, ok
}

func (m *memory) deleteTag(repo, tag string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.repo(repo).tags, tag)
}

// deleteManifest removes a tag, or a manifest with all its tags, and tells whether it was there.
func (m *memory) deleteManifest(repo, reference string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	d, err := digest.Parse(reference)
	if err != nil {
		_, ok := r.tags[reference]
		delete(r.tags, reference)
		return ok
	}
	_, ok := r.manifests[d]
	delete(r.manifests, d)
	maps.DeleteFunc(r.tags, func(_ string, tagged digest.Digest) bool { return tagged == d })
	return ok
}

// tags lists a repository's tags in order; ok is false for a repository that is not there.
func (m *memory) tags(repo string) (tags []string, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.repos[repo]
	if r == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(r.tags)), true
}

func (m *memory) catalog() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.repos))
}

// ServeHTTP answers what the front lets through.
func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := parseV2(r.Method, r.URL.Path)
	switch q.kind {
	case Manifest:
		m.serveManifest(w, r, q)
	case Blob:
		m.serveBlob(w, r, q)
	case Upload:
		m.serveUpload(w, r, q)
	case Tags:
		m.serveTags(w, r, q)
	case Catalog:
		writeJSON(w, http.StatusOK, map[string]any{"repositories": m.catalog()})
	default:
		http.NotFound(w, r)
	}
}
