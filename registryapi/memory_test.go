package registryapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// memory is a Registry that has its content in maps: manifests under tags and digests, blobs linked by repositories.
// Faults are set by hooks.
type memory struct {
	mu        sync.Mutex
	manifests map[oci.Repository]map[string]registryapi.Manifest // by tag and by digest
	blobs     map[oci.Digest][]byte
	links     map[oci.Repository]map[oci.Digest]bool
	fetched   map[oci.Digest]int64 // bytes that were read of each blob
	accepted  []string             // what the last manifest request accepted
	next      string               // the upstream's Link header on tags

	setup func()                                                            // run inside the bubble, where channels must be made
	fault func(ctx context.Context) error                                   // before every answer
	open  func(data []byte) registryapi.Blob                                // instead of the plain blob
	tweak func(registryapi.Manifest) (registryapi.Manifest, bool)           // of manifests on their way out
	refer func(d oci.Digest, artifactType string) (registryapi.Page, error) // instead of searching
}

func newMemory() *memory {
	return &memory{
		manifests: map[oci.Repository]map[string]registryapi.Manifest{},
		blobs:     map[oci.Digest][]byte{},
		links:     map[oci.Repository]map[oci.Digest]bool{},
		fetched:   map[oci.Digest]int64{},
	}
}

func (m *memory) addBlob(repo oci.Repository, data []byte) oci.Descriptor {
	d := oci.FromBytes("sha256", data)
	m.blobs[d] = data
	if m.links[repo] == nil {
		m.links[repo] = map[oci.Digest]bool{}
	}
	m.links[repo][d] = true
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}

func (m *memory) addManifest(repo oci.Repository, tag, mediaType string, content any) oci.Descriptor {
	raw, err := json.MarshalIndent(content, "", "   ") // not as Go would write it again: bytes must pass unchanged
	if err != nil {
		panic(err)
	}
	d := oci.FromBytes("sha256", raw)
	if m.manifests[repo] == nil {
		m.manifests[repo] = map[string]registryapi.Manifest{}
	}
	one := registryapi.Manifest{MediaType: mediaType, Digest: d, Size: int64(len(raw)), Raw: raw}
	m.manifests[repo][d.String()] = one
	if tag != "" {
		m.manifests[repo][tag] = one
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// image is an image of two layers for one platform under an index, as most on Docker Hub are.
type image struct {
	repo            oci.Repository
	index, manifest oci.Descriptor
	config          oci.Descriptor
	layers          []oci.Descriptor
}

func (m *memory) addImage(upstream, path, tag string) image {
	repo := oci.Repository{Upstream: upstream, Path: path}
	img := image{repo: repo}
	img.config = m.addBlob(repo, []byte(`{"architecture":"amd64","os":"linux","for":"`+path+`"}`))
	for i := range 2 {
		img.layers = append(img.layers, m.addBlob(repo, bytes.Repeat(fmt.Appendf(nil, "%s layer %d,", path, i), 4000)))
	}
	img.manifest = m.addManifest(repo, "", oci.MediaTypeDockerManifest,
		map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeDockerManifest, "config": img.config, "layers": img.layers})
	img.index = m.addManifest(repo, tag, oci.MediaTypeDockerList,
		map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeDockerList, "manifests": []oci.Descriptor{img.manifest}})
	return img
}

func (m *memory) begin(ctx context.Context) error {
	if m.fault != nil {
		return m.fault(ctx)
	}
	return ctx.Err()
}

func (m *memory) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (registryapi.Manifest, error) {
	if err := m.begin(ctx); err != nil {
		return registryapi.Manifest{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepted = accept
	if m.manifests[repo] == nil {
		return registryapi.Manifest{}, fmt.Errorf("%s: %w", repo, oci.ErrNameUnknown)
	}
	one, ok := m.manifests[repo][ref.String()]
	if !ok {
		return registryapi.Manifest{}, fmt.Errorf("%s in %s: %w", ref, repo, oci.ErrNotFound)
	}
	if headOnly {
		one.Raw = nil
	}
	if m.tweak != nil {
		if tweaked, ok := m.tweak(one); ok {
			return tweaked, nil
		}
	}
	return one, nil
}

func (m *memory) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	if err := m.begin(ctx); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.links[repo][d] {
		return 0, fmt.Errorf("%s in %s: %w", d, repo, oci.ErrNotFound)
	}
	return int64(len(m.blobs[d])), nil
}

func (m *memory) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, _ bool) (registryapi.Blob, error) {
	if _, err := m.StatBlob(ctx, repo, d); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open != nil {
		return m.open(m.blobs[d]), nil
	}
	return &memoryBlob{m: m, d: d, data: m.blobs[d]}, nil
}

func (m *memory) Tags(ctx context.Context, repo oci.Repository, n int, last string) (registryapi.Page, error) {
	if err := m.begin(ctx); err != nil {
		return registryapi.Page{}, err
	}
	if m.manifests[repo] == nil {
		return registryapi.Page{}, oci.ErrNotFound
	}
	tags := []string{}
	for _, tag := range slices.Sorted(maps.Keys(m.manifests[repo])) {
		if oci.CheckTag(tag) == nil && tag > last && (n == 0 || len(tags) < n) {
			tags = append(tags, tag)
		}
	}
	raw, err := json.Marshal(map[string]any{"name": repo.Path, "tags": tags})
	return registryapi.Page{Raw: raw, Link: m.next}, err
}

func (m *memory) Referrers(ctx context.Context, _ oci.Repository, d oci.Digest, artifactType string) (registryapi.Page, error) {
	if err := m.begin(ctx); err != nil {
		return registryapi.Page{}, err
	}
	return m.refer(d, artifactType)
}

// memoryBlob writes what it has, in small steps.
type memoryBlob struct {
	m    *memory
	d    oci.Digest
	data []byte
}

func (b *memoryBlob) Size() int64                              { return int64(len(b.data)) }
func (b *memoryBlob) Ready(ctx context.Context, _ int64) error { return ctx.Err() }
func (b *memoryBlob) Close() error                             { return nil }

func (b *memoryBlob) WriteRange(_ context.Context, w io.Writer, off, n int64) error {
	b.m.mu.Lock()
	b.m.fetched[b.d] += n
	b.m.mu.Unlock()
	part := b.data[off : off+n]
	for len(part) > 0 {
		k, err := w.Write(part[:min(len(part), 10_000)])
		if err != nil {
			return err
		}
		part = part[k:]
	}
	return nil
}

// fileBlob writes from a file, as the store does with whole blobs.
type fileBlob struct {
	file *os.File
	size int64
}

func openFile(t testing.TB, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (b *fileBlob) Size() int64                              { return b.size }
func (b *fileBlob) Ready(ctx context.Context, _ int64) error { return ctx.Err() }
func (b *fileBlob) Close() error                             { return b.file.Close() }

func (b *fileBlob) WriteRange(_ context.Context, w io.Writer, off, n int64) error {
	if _, err := b.file.Seek(off, io.SeekStart); err != nil {
		return err
	}
	if off+n == b.size { // the other way to say it, which must be as good
		_, err := io.Copy(w, b.file)
		return err
	}
	_, err := io.CopyN(w, b.file, n)
	return err
}
