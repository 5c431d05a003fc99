package images

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// bufferSize is what is generated, hashed and written at once: large for few system calls, small
// enough to stay in the processor's cache.
const bufferSize = 256 << 10

// tarBlock is the unit of a tar archive; an archive of one file has a header and two closing blocks.
const tarBlock = 512

// sink writes a new blob beside its place and hashes it.
type sink struct {
	dir  string
	file *os.File
	hash hash.Hash
	size int64
}

func newSink(dir string) (*sink, error) {
	folder := filepath.Join(dir, "blobs", string(digest.SHA256))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return nil, err
	}
	return &sink{dir: folder, file: file, hash: sha256.New()}, nil
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// commit gives the blob its name. After an error, or instead of commit, abandon removes it.
func (s *sink) commit() (Blob, error) {
	d := digest.NewDigest(digest.SHA256, s.hash)
	path := filepath.Join(s.dir, d.Encoded())
	if err := s.file.Close(); err != nil {
		return Blob{}, err
	}
	if err := os.Rename(s.file.Name(), path); err != nil {
		return Blob{}, err
	}
	return Blob{Descriptor: v1.Descriptor{Digest: d, Size: s.size}, Path: path}, nil
}

func (s *sink) abandon() {
	_ = s.file.Close()
	_ = os.Remove(s.file.Name())
}

func writeBlob(dir string, data []byte) (Blob, error) {
	s, err := newSink(dir)
	if err != nil {
		return Blob{}, err
	}
	if _, err := s.Write(data); err != nil {
		s.abandon()
		return Blob{}, err
	}
	return s.commit()
}

// writeLayer makes one layer below dir.
func writeLayer(ctx context.Context, dir string, l Layer, p Packing) (Blob, error) {
	s, err := newSink(dir)
	if err != nil {
		return Blob{}, err
	}
	diffID, err := pack(ctx, s, l, p)
	if err != nil {
		s.abandon()
		return Blob{}, err
	}
	b, err := s.commit()
	b.DiffID = diffID
	return b, err
}

// pack writes the layer's archive through its packing into s and returns the archive's digest.
func pack(ctx context.Context, s *sink, l Layer, p Packing) (digest.Digest, error) {
	buffered := bufio.NewWriterSize(s, bufferSize)
	packer, err := newPacker(buffered, p)
	if err != nil {
		return "", err
	}
	var archive io.Writer = packer
	var inside hash.Hash
	if p != Plain && p != "" {
		inside = sha256.New()
		archive = io.MultiWriter(inside, packer)
	}
	if len(l.Files) > 0 {
		err = tarFiles(ctx, archive, l.Files)
	} else {
		err = tarRandom(ctx, archive, l)
	}
	if err := errors.Join(err, packer.Close(), buffered.Flush()); err != nil {
		return "", err
	}
	if inside == nil {
		inside = s.hash
	}
	return digest.NewDigest(digest.SHA256, inside), nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func newPacker(w io.Writer, p Packing) (io.WriteCloser, error) {
	switch p {
	case Plain, "":
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case GzipStored:
		return gzip.NewWriterLevel(w, gzip.NoCompression)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("%q is no packing", string(p))
}

// tarRandom writes an archive of exactly l.Size bytes with one file of random bytes. What is no
// multiple of a block follows the archive's end as zeros, which readers skip.
func tarRandom(ctx context.Context, w io.Writer, l Layer) error {
	content := l.Size/tarBlock*tarBlock - 3*tarBlock
	if content <= 0 {
		return fmt.Errorf("size %d is below %d", l.Size, 4*tarBlock)
	}
	t := tar.NewWriter(w)
	header := &tar.Header{
		Name: fmt.Sprintf("data/random-%d", l.Seed), Mode: 0o644, Size: content,
		ModTime: time.Unix(0, 0), Format: tar.FormatGNU,
	}
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	if err := writeRandom(ctx, t, l.Seed, content); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	_, err := w.Write(make([]byte, l.Size%tarBlock))
	return err
}

// writeRandom writes n bytes that depend on the seed alone.
func writeRandom(ctx context.Context, w io.Writer, seed uint64, n int64) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	random := rand.NewChaCha8(key)
	buf := make([]byte, bufferSize)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(n, bufferSize)]
		_, _ = random.Read(part) // never fails
		if _, err := w.Write(part); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

// tarFiles writes an archive of files and folders under their own paths, in order, each once. What
// is neither a regular file, a folder nor a symbolic link is left out.
func tarFiles(ctx context.Context, w io.Writer, paths []string) error {
	t := tar.NewWriter(w)
	seen := map[string]bool{}
	sorted := slices.Clone(paths)
	slices.Sort(sorted)
	for _, root := range sorted {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if seen[path] {
				return nil
			}
			seen[path] = true
			return tarFile(t, path)
		})
		if err != nil {
			return err
		}
	}
	return t.Close()
}

func tarFile(t *tar.Writer, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	switch {
	case info.Mode().IsRegular(), info.IsDir():
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return nil
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	name, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	header.Name = strings.TrimPrefix(filepath.ToSlash(name), "/")
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if _, err := io.CopyN(t, file, header.Size); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
