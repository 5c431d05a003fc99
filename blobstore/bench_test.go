package blobstore_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

func mebiList(b *testing.B, data []byte) *piece.List {
	b.Helper()
	l := piece.Issue(blobstoretest.Digest(data), int64(len(data)), mebi, "n1")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		if err := h.Piece(blobstoretest.Piece(l, data, i)); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// BenchmarkWritePiece writes the pieces of a blob of 256 MiB; beside it the same bytes by a bare WriteAt.
func BenchmarkWritePiece(b *testing.B) {
	data := blobstoretest.Data(1, 256*mebi)
	l := mebiList(b, data)
	b.Run("1MiB/bare", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		b.SetBytes(mebi)
		k := 0
		for b.Loop() {
			i := k % l.Count()
			off, _ := l.Bounds(i)
			if i == 0 {
				if err := errors.Join(f.Truncate(0), f.Truncate(l.Size())); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := f.WriteAt(blobstoretest.Piece(l, data, i), off); err != nil {
				b.Fatal(err)
			}
			k++
		}
	})
	for _, writers := range []int{1, 4} {
		b.Run(fmt.Sprintf("1MiB/writers=%d", writers), func(b *testing.B) {
			s := openStore(b, nil)
			b.SetBytes(mebi)
			for done := 0; done < b.N; {
				n := min(b.N-done, l.Count())
				writePieces(b, s, l, data, n, writers)
				done += n
			}
		})
	}
}

func writePieces(b *testing.B, s *blobstore.Store, l *piece.List, data []byte, n, writers int) {
	p, err := s.OpenPartial(l)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	defer p.Drop()
	var next atomic.Int64
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkServe compares a blob of the store with the same file by a plain http.ServeContent server.
func BenchmarkServe(b *testing.B) {
	const size = 256 * mebi
	dir := b.TempDir()
	s := openDir(b, dir, nil)
	data := blobstoretest.Data(1, size)
	d := blobstoretest.Digest(data)
	blobstoretest.Commit(b, s, data)
	header := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(size))
	}
	store := func(w http.ResponseWriter, req *http.Request) {
		blob, err := s.Open(d)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = blob.Close() }()
		r, err := blob.NewReader()
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = r.Close() }()
		header(w)
		if err := r.WriteRange(req.Context(), w, 0, size); err != nil {
			b.Error(err)
		}
	}
	plain := func(w http.ResponseWriter, req *http.Request) {
		http.ServeFile(w, req, filepath.Join(dir, "blobs", "sha256", d.Hex()[:2], d.Hex()))
	}
	for _, pair := range []int{1, 2, 3} {
		b.Run(fmt.Sprintf("256MiB/store/pair=%d", pair), func(b *testing.B) { serve(b, store, size) })
		b.Run(fmt.Sprintf("256MiB/ServeContent/pair=%d", pair), func(b *testing.B) { serve(b, plain, size) })
	}
}

func serve(b *testing.B, handler http.HandlerFunc, size int64) {
	server := httptest.NewServer(handler)
	defer server.Close()
	b.SetBytes(size)
	for b.Loop() {
		resp, err := http.Get(server.URL)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || n != size {
			b.Fatalf("%d bytes, %v", n, err)
		}
	}
}

// BenchmarkFirstRead is the first read after a start: every piece is checked beside the sending.
func BenchmarkFirstRead(b *testing.B) {
	const size = 256 * mebi
	dir := b.TempDir()
	s := openDir(b, dir, func(c *blobstore.Config) { c.ScrubInterval = time.Nanosecond })
	data := blobstoretest.Data(1, size)
	blobstoretest.Commit(b, s, data)
	blob, err := s.Open(blobstoretest.Digest(data))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = blob.Close() }()
	r, err := blob.NewReader()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b.SetBytes(size)
	for b.Loop() {
		if err := r.WriteRange(b.Context(), io.Discard, 0, size); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkManifest(b *testing.B) {
	s := openStore(b, nil)
	repo := oci.Repository{Upstream: "docker.io", Path: "library/nginx"}
	var digests []oci.Digest
	for k := range 100 {
		raw := blobstoretest.Data(uint64(k), 2000)
		digests = append(digests, blobstoretest.Digest(raw))
		if err := s.PutManifest(digests[k], oci.MediaTypeOCIManifest, raw, repo); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for k := 0; pb.Next(); k++ {
			d := digests[k%len(digests)]
			if _, _, err := s.Manifest(d); err != nil || !s.Linked(repo, d) {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	s := openStore(b, nil)
	if err := s.PutRecord("tag", "docker.io/library/nginx:1", make([]byte, 200), time.Time{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Record("tag", "docker.io/library/nginx:1"); err != nil {
			b.Fatal(err)
		}
	}
}
