package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pullonce/pullonce/internal/images"
)

const (
	// smallFile is left out: a few thousand large files are read faster than a hundred thousand small ones.
	smallFile = 32 << 10
	// largeFile is left out as well: it would be a layer by itself.
	largeFile = 64 << 20
	// negligible is what a layer may lack of its size without being filled up.
	negligible = 64 << 10
)

// makeImage makes an image with layers of these sizes out of files of this machine, below dir. The layers are gzip
// that does not try to pack, as that is fast and every engine takes it.
func makeImage(ctx context.Context, dir string, sizes []int64) (*images.Image, error) {
	contents := share(candidates(ctx, sizes), sizes)
	spec := images.Spec{Docker: true, Packing: images.GzipStored, Cmd: []string{"/bin/sh"}}
	for i, c := range contents {
		if c.room > negligible {
			path := filepath.Join(dir, fmt.Sprintf("filler-%d", i))
			if err := writeFiller(path, c.room); err != nil {
				return nil, fmt.Errorf("fill layer %d: %w", i, err)
			}
			c.files = append(c.files, path)
		}
		spec.Layers = append(spec.Layers, images.Layer{Files: c.files})
	}
	image, err := images.Build(ctx, dir, spec)
	if err != nil {
		return nil, fmt.Errorf("make an image of files of this machine: %w", err)
	}
	return image, nil
}

// A candidate is a file that may go into a layer.
type candidate struct {
	path string
	size int64
}

// errEnough ends a walk that has found what it needs.
var errEnough = errors.New("enough")

// candidates lists more files than the layers need, where the machine has them.
func candidates(ctx context.Context, sizes []int64) []candidate {
	var found []candidate
	var have, want int64
	for _, size := range sizes {
		want += size + size/2
	}
	for _, root := range roots(ctx) {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // what cannot be read is not needed
			}
			info, err := entry.Info()
			if err != nil || info.Size() < smallFile || info.Size() > largeFile {
				return nil
			}
			found = append(found, candidate{path, info.Size()})
			if have += info.Size(); have >= want || ctx.Err() != nil {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			break
		}
	}
	return found
}

// roots are folders with files that nobody changes meanwhile, those first that are there wherever this is built.
func roots(ctx context.Context) []string {
	var out []string
	if text, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output(); err == nil {
		out = strings.Fields(string(text))
	}
	return append(out, "/usr/lib", "/usr/share", "/usr/bin")
}

// content is what a layer consists of.
type content struct {
	files []string
	room  int64 // what is missing
}

// share puts each file into the first layer that has room for it, large files first.
func share(files []candidate, sizes []int64) []content {
	layers := make([]content, len(sizes))
	for i, size := range sizes {
		layers[i].room = size
	}
	slices.SortStableFunc(files, func(a, b candidate) int { return cmp.Compare(b.size, a.size) })
	for _, f := range files {
		fits := slices.IndexFunc(layers, func(l content) bool { return l.room >= f.size })
		if fits < 0 || !readable(f.path) {
			continue
		}
		layers[fits].files = append(layers[fits].files, f.path)
		layers[fits].room -= f.size
	}
	for i := range layers {
		if len(layers[i].files) == 0 {
			layers[i].room = max(layers[i].room, negligible+1) // a layer is never empty
		}
	}
	return layers
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// writeFiller writes a file of random bytes.
func writeFiller(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	return errors.Join(err, f.Close())
}
