// Package images makes real container images without a container engine: layers are tar archives of
// random bytes or of files on this machine, packed or not, configurations carry the right diff IDs,
// and everything is pushed over HTTP or handed to a keeper such as a Hub in this process.
//
// All blobs are written to a folder that the caller names, at blobs/<algorithm>/<hex>, while their
// digest is computed, so that a layer of a gibibyte takes a few megabytes of memory. The same seed
// gives the same bytes. Images are immutable and may be used by many goroutines at once.
package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// The media types of Docker's schema 2.
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerZstd    = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// Blob is a descriptor and the file that has its bytes.
type Blob struct {
	v1.Descriptor
	Path   string
	DiffID digest.Digest // of a layer: the digest of the tar archive inside
}

// Image is a manifest and what it lists: blobs, or, for an index, other images.
type Image struct {
	v1.Descriptor // of the manifest
	Raw           []byte
	Config        Blob
	Layers        []Blob
	Children      []*Image // of an index
}

// Blobs returns the image's blobs, each digest once: configurations and layers, not manifests.
func (i *Image) Blobs() []Blob {
	var all []Blob
	seen := map[digest.Digest]bool{}
	i.each(func(image *Image) {
		for _, b := range append([]Blob{image.Config}, image.Layers...) {
			if b.Digest != "" && !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	})
	return all
}

// Manifests returns the images that have to be stored for this one, children first.
func (i *Image) Manifests() []*Image {
	var all []*Image
	i.each(func(image *Image) { all = append(all, image) })
	return all
}

func (i *Image) each(f func(*Image)) {
	for _, child := range i.Children {
		child.each(f)
	}
	f(i)
}

// UniqueBytes is the size of all distinct blobs and manifests: what a pull of everything needs.
func (i *Image) UniqueBytes() int64 { return UniqueBytes(i) }

// UniqueBytes is the size of all distinct blobs and manifests of several images.
func UniqueBytes(images ...*Image) int64 {
	sizes := map[digest.Digest]int64{}
	for _, image := range images {
		for _, b := range image.Blobs() {
			sizes[b.Digest] = b.Size
		}
		for _, m := range image.Manifests() {
			sizes[m.Digest] = m.Size
		}
	}
	var sum int64
	for _, n := range sizes {
		sum += n
	}
	return sum
}

// Layer says what a layer consists of: Files, or else Size random bytes made from Seed.
type Layer struct {
	// Files are paths on this machine; a folder stands for everything below it. They keep their
	// paths in the layer.
	Files []string
	// Size is the size of the blob if it is not packed; a packed one is slightly larger, as random
	// bytes do not pack. It is at least 2,048.
	Size int64
	Seed uint64
}

// Packing is how a layer is compressed.
type Packing string

// The packings. GzipStored is gzip that does not try: valid for all clients, and fast.
const (
	Plain      Packing = "plain"
	Gzip       Packing = "gzip"
	GzipStored Packing = "gzip-stored"
	Zstd       Packing = "zstd"
)

// Spec says how an image is made. The zero value of everything but Layers is good: an OCI image
// for this machine's platform with plain layers, and configurations without a date.
type Spec struct {
	Layers   []Layer
	Packing  Packing // empty: Plain
	Docker   bool    // schema 2 instead of OCI
	Platform v1.Platform
	// Cmd is what a container runs; Labels go into the configuration.
	Cmd    []string
	Labels map[string]string
	// Annotations go into the manifest (not with Docker).
	Annotations map[string]string
}

// Random makes an OCI image with plain layers of exactly the given sizes, different for each seed.
func Random(dir string, seed uint64, sizes ...int64) (*Image, error) {
	// For tests and set-up, which have nothing to cancel it with; Build takes a context.
	return Build(context.Background(), dir, Spec{Layers: RandomLayers(seed, sizes...)})
}

// RandomLayers describes layers of random bytes, each with a seed of its own.
func RandomLayers(seed uint64, sizes ...int64) []Layer {
	layers := make([]Layer, len(sizes))
	for i, size := range sizes {
		layers[i] = Layer{Seed: seed<<16 + uint64(i), Size: size}
	}
	return layers
}

// FromFiles makes a Docker schema 2 image with a gzip layer for each list of files and folders.
func FromFiles(dir string, layers [][]string) (*Image, error) {
	spec := Spec{Docker: true, Packing: Gzip}
	for _, files := range layers {
		spec.Layers = append(spec.Layers, Layer{Files: files})
	}
	return Build(context.Background(), dir, spec)
}

// Build makes an image below dir, as many layers at once as there are processors.
func Build(ctx context.Context, dir string, spec Spec) (*Image, error) {
	f := formatOf(spec.Docker)
	layers := make([]Blob, len(spec.Layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range spec.Layers {
		group.Go(func() error {
			b, err := writeLayer(ctx, dir, l, spec.Packing)
			if err != nil {
				return fmt.Errorf("make layer %d: %w", i, err)
			}
			b.MediaType, err = f.layer(spec.Packing)
			layers[i] = b
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return Assemble(dir, spec, layers)
}

// Assemble makes an image of layers that exist already; Layers and Packing of spec are not used.
// So images share layers.
func Assemble(dir string, spec Spec, layers []Blob) (*Image, error) {
	f := formatOf(spec.Docker)
	config, err := writeConfig(dir, spec, layers)
	if err != nil {
		return nil, err
	}
	config.MediaType = f.config
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: f.manifest,
		Config: config.Descriptor, Layers: descriptors(layers), Annotations: spec.Annotations,
	}
	image, err := finish(f.manifest, m)
	if err != nil {
		return nil, err
	}
	image.Config, image.Layers = config, slices.Clone(layers)
	platform := platformOf(spec)
	image.Platform = &platform
	return image, nil
}

// Index makes a multi-platform index of images, a manifest list if they are of Docker's schema 2.
func Index(children ...*Image) (*Image, error) {
	if len(children) == 0 {
		return nil, errors.New("make index: no images")
	}
	mediaType := v1.MediaTypeImageIndex
	if children[0].MediaType == DockerManifest {
		mediaType = DockerManifestList
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType}
	for _, child := range children {
		index.Manifests = append(index.Manifests, child.Descriptor)
	}
	image, err := finish(mediaType, index)
	if err != nil {
		return nil, err
	}
	image.Children = slices.Clone(children)
	return image, nil
}

// Artifact makes an artifact that refers to subject: data as its only blob. The subject itself has
// to be stored apart from it.
func Artifact(dir string, subject *Image, artifactType, mediaType string, data []byte) (*Image, error) {
	empty, err := writeBlob(dir, []byte("{}"))
	if err != nil {
		return nil, err
	}
	empty.MediaType = v1.MediaTypeEmptyJSON
	blob, err := writeBlob(dir, data)
	if err != nil {
		return nil, err
	}
	blob.MediaType = mediaType
	about := v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	image, err := finish(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: empty.Descriptor, Layers: []v1.Descriptor{blob.Descriptor}, Subject: &about,
	})
	if err != nil {
		return nil, err
	}
	image.ArtifactType = artifactType
	image.Config, image.Layers = empty, []Blob{blob}
	return image, nil
}

// finish marshals a manifest and describes it.
func finish(mediaType string, manifest any) (*Image, error) {
	raw, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal manifest: %w", err)
	}
	return &Image{
		Descriptor: v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))},
		Raw:        raw,
	}, nil
}

func descriptors(blobs []Blob) []v1.Descriptor {
	list := make([]v1.Descriptor, len(blobs))
	for i, b := range blobs {
		list[i] = b.Descriptor
	}
	return list
}

// format is the set of media types of a kind of image.
type format struct {
	manifest, config string
	layers           map[Packing]string
}

func formatOf(docker bool) format {
	if docker {
		return format{DockerManifest, DockerConfig, map[Packing]string{
			Plain: DockerLayer, Gzip: DockerLayerGzip, GzipStored: DockerLayerGzip, Zstd: DockerLayerZstd,
		}}
	}
	return format{v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, map[Packing]string{
		Plain: v1.MediaTypeImageLayer, Gzip: v1.MediaTypeImageLayerGzip,
		GzipStored: v1.MediaTypeImageLayerGzip, Zstd: v1.MediaTypeImageLayerZstd,
	}}
}

func (f format) layer(p Packing) (string, error) {
	if p == "" {
		p = Plain
	}
	mediaType, ok := f.layers[p]
	if !ok {
		return "", fmt.Errorf("%q is no packing", string(p))
	}
	return mediaType, nil
}

func platformOf(spec Spec) v1.Platform {
	if spec.Platform.OS != "" {
		return spec.Platform
	}
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// writeConfig writes the configuration; its date is fixed so that equal images have equal digests.
func writeConfig(dir string, spec Spec, layers []Blob) (Blob, error) {
	created := time.Unix(0, 0).UTC()
	config := v1.Image{
		Created: &created, Platform: platformOf(spec),
		Config: v1.ImageConfig{Cmd: spec.Cmd, Labels: spec.Labels, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	for i, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		config.History = append(config.History, v1.History{Created: &created, CreatedBy: fmt.Sprintf("layer %d", i)})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return Blob{}, fmt.Errorf("marshal configuration: %w", err)
	}
	return writeBlob(dir, raw)
}
