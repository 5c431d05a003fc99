package images_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullonce/pullonce/internal/images"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// unpack returns the tar archive inside a layer, found by its media type.
func unpack(t *testing.T, b images.Blob) []byte {
	t.Helper()
	raw := read(t, b.Path)
	var r io.Reader = bytes.NewReader(raw)
	switch {
	case strings.HasSuffix(b.MediaType, "gzip"):
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case strings.HasSuffix(b.MediaType, "zstd"):
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	archive, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func entries(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(content) + h.Linkname
	}
}

func TestImagesHaveTheBytesThatTheirDescriptorsName(t *testing.T) {
	for _, packing := range []images.Packing{images.Plain, images.Gzip, images.GzipStored, images.Zstd} {
		for _, docker := range []bool{false, true} {
			spec := images.Spec{Layers: images.RandomLayers(7, 100_000, 5000), Packing: packing, Docker: docker}
			image, err := images.Build(t.Context(), t.TempDir(), spec)
			if err != nil {
				t.Fatalf("Build(%s, docker=%v): %v", packing, docker, err)
			}
			if got := digest.FromBytes(image.Raw); got != image.Digest {
				t.Errorf("the manifest's digest is %s; want %s", image.Digest, got)
			}
			var config v1.Image
			if err := json.Unmarshal(read(t, image.Config.Path), &config); err != nil {
				t.Fatal(err)
			}
			for i, l := range image.Layers {
				raw := read(t, l.Path)
				if got := digest.FromBytes(raw); got != l.Digest || int64(len(raw)) != l.Size {
					t.Errorf("%s layer %d: file has %d bytes of %s; want %d of %s", packing, i, len(raw), got, l.Size, l.Digest)
				}
				archive := unpack(t, l)
				if got := digest.FromBytes(archive); got != config.RootFS.DiffIDs[i] {
					t.Errorf("%s layer %d: the diff ID is %s; want %s", packing, i, config.RootFS.DiffIDs[i], got)
				}
				if got := len(entries(t, archive)); got != 1 {
					t.Errorf("%s layer %d holds %d files; want 1", packing, i, got)
				}
			}
		}
	}
}

func TestRandomLayersHaveTheExactSizeAndDependOnTheSeedAlone(t *testing.T) {
	first, err := images.Random(t.TempDir(), 1, 1<<20, 2048, 777_777)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1 << 20, 2048, 777_777} {
		if got := first.Layers[i].Size; got != want {
			t.Errorf("layer %d has %d bytes; want %d", i, got, want)
		}
	}
	again, err := images.Random(t.TempDir(), 1, 1<<20, 2048, 777_777)
	if err != nil {
		t.Fatal(err)
	}
	other, err := images.Random(t.TempDir(), 2, 1<<20, 2048, 777_777)
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != again.Digest {
		t.Errorf("one seed gave %s and %s; want the same", first.Digest, again.Digest)
	}
	if first.Digest == other.Digest {
		t.Error("two seeds gave the same image")
	}
	if _, err := images.Random(t.TempDir(), 1, 100); err == nil {
		t.Error("a layer of 100 bytes was made; want an error")
	}
}

func TestALargeLayerTakesLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := images.Random(t.TempDir(), 1, 64<<20); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("a layer of 64 MiB allocated %d bytes in all; want at most 4 MiB", got)
	}
}

func TestFromFilesKeepsPathsContentAndLinks(t *testing.T) {
	from := t.TempDir()
	for name, text := range map[string]string{"a/one": "1", "a/b/two": "22", "three": "333"} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", filepath.Join(from, "a/link")); err != nil {
		t.Fatal(err)
	}
	image, err := images.FromFiles(t.TempDir(), [][]string{{filepath.Join(from, "a")}, {filepath.Join(from, "three")}})
	if err != nil {
		t.Fatal(err)
	}
	if image.MediaType != images.DockerManifest || len(image.Layers) != 2 {
		t.Fatalf("got %s with %d layers; want schema 2 with 2", image.MediaType, len(image.Layers))
	}
	root := strings.TrimPrefix(from, "/") + "/"
	got := entries(t, unpack(t, image.Layers[0]))
	for name, want := range map[string]string{"a/": "", "a/one": "1", "a/b/": "", "a/b/two": "22", "a/link": "one"} {
		if content, ok := got[root+name]; !ok || content != want {
			t.Errorf("%s holds %q (%v); want %q", name, content, ok, want)
		}
	}
	if content := entries(t, unpack(t, image.Layers[1]))[root+"three"]; content != "333" {
		t.Errorf("three holds %q; want 333", content)
	}
}

func TestSharedLayersCountOnce(t *testing.T) {
	dir := t.TempDir()
	one, err := images.Random(dir, 1, 10_000, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	more, err := images.Random(dir, 2, 30_000)
	if err != nil {
		t.Fatal(err)
	}
	two, err := images.Assemble(dir, images.Spec{}, append(one.Layers[:1:1], more.Layers...))
	if err != nil {
		t.Fatal(err)
	}
	want := one.UniqueBytes() + two.UniqueBytes() - 10_000
	if got := images.UniqueBytes(one, two); got != want {
		t.Errorf("UniqueBytes = %d; want %d", got, want)
	}
	index, err := images.Index(one, two)
	if err != nil {
		t.Fatal(err)
	}
	if got := index.UniqueBytes(); got != want+index.Size {
		t.Errorf("the index's UniqueBytes = %d; want %d", got, want+index.Size)
	}
	if got := len(index.Blobs()); got != 5 {
		t.Errorf("the index has %d blobs; want 3 layers and 2 configurations", got)
	}
}

func BenchmarkRandom(b *testing.B) {
	const size = 256 << 20
	b.SetBytes(size)
	dir := b.TempDir()
	for b.Loop() {
		if _, err := images.Random(dir, 1, size); err != nil {
			b.Fatal(err)
		}
	}
}
