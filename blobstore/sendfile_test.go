package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/piece"
)

const traced = 8 << 20 // bytes of the blob that is served under the trace

// serveOnce serves one blob over HTTP three times: while it arrives, whole and checked, and whole and not yet checked.
// It is the child of the trace.
func serveOnce(dir string) int {
	data := blobstoretest.Data(1, traced)
	d := blobstoretest.Digest(data)
	l := piece.Issue(d, traced, 1<<20, "child")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		if err := h.Piece(blobstoretest.Piece(l, data, i)); err != nil {
			return fail(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	s, err := blobstore.Open(blobstore.Default(dir), log)
	if err != nil {
		return fail(err)
	}
	p, err := s.OpenPartial(l)
	if err != nil {
		return fail(err)
	}
	r, err := p.OpenReader()
	if err != nil {
		return fail(err)
	}
	written := make(chan error, 1)
	go func() {
		for i := range l.Count() {
			if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	err = errors.Join(get(r.WriteRange, data), <-written, p.Commit(blobstore.Origin{}), r.Close())
	if err == nil {
		err = getWhole(s, data)
	}
	p.Close()
	if err = errors.Join(err, s.Close()); err != nil {
		return fail(err)
	}
	if s, err = blobstore.Open(blobstore.Default(dir), log); err != nil {
		return fail(err)
	}
	if err = getWhole(s, data); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Println(err)
	return 1
}

func getWhole(s *blobstore.Store, data []byte) error {
	b, err := s.Open(blobstoretest.Digest(data))
	if err != nil {
		return err
	}
	r, err := b.NewReader()
	if err != nil {
		return err
	}
	return errors.Join(get(r.WriteRange, data), r.Close(), b.Close())
}

// get has an HTTP server write a blob and compares what a client receives.
func get(write func(context.Context, io.Writer, int64, int64) error, want []byte) error {
	var served error
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(want)))
		served = write(req.Context(), w, 0, int64(len(want)))
	}))
	resp, err := http.Get(server.URL)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	server.Close()
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("client got %d bytes that differ", len(got))
	}
	return errors.Join(err, served)
}

func TestTheKernelSendsBlobsFromTheFile(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is missing")
		}
		t.Skip("strace is missing")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	child := exec.Command(strace, "-f", "-qq", "-e", "trace=sendfile", "-o", trace, os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=server "+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("server under strace: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	for _, call := range regexp.MustCompile(`sendfile.*= (\d+)`).FindAllSubmatch(raw, -1) {
		n, _ := strconv.ParseInt(string(call[1]), 10, 64)
		sent += n
	}
	// The first 512 bytes of each response go with its header.
	if least := int64(3 * (traced - 4096)); sent < least {
		t.Errorf("sendfile moved %d bytes of three responses of %d; want at least %d", sent, traced, least)
	}
}
