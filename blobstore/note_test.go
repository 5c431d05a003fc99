package blobstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func TestANoteGoesWithItsBlob(t *testing.T) {
	dir := t.TempDir()
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	data := blobstoretest.Data(1, 100_000)
	d := blobstoretest.Digest(data)
	if err := s.SetNote(d, []byte("none")); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("SetNote on a blob that is not here = %v; want ErrNotFound", err)
	}
	first := pushed
	first.Note = []byte("first")
	if err := s.Put(t.Context(), d, data, first); err != nil {
		t.Fatal(err)
	}
	again := pushed
	again.Note = []byte("other")
	if err := s.Put(t.Context(), d, data, again); err != nil || string(s.Note(d)) != "first" {
		t.Errorf("Put of what is here = %v, note %q; want the first note", err, s.Note(d))
	}
	if err := s.SetNote(d, make([]byte, blobstore.MaxNoteBytes+1)); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("SetNote of too much = %v; want ErrTooLarge", err)
	}
	second := bytes.Repeat([]byte{0, 255, '"'}, 300_000)
	if err := s.SetNote(d, second); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{false, true} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if lost {
			if err := os.Remove(filepath.Join(dir, "index.db")); err != nil {
				t.Fatal(err)
			}
		}
		if s, err = blobstore.Open(blobstore.Default(dir), quiet(t)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.Note(d), second) {
			t.Errorf("index lost: %v: note of %d bytes; want %d", lost, len(s.Note(d)), len(second))
		}
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.SetNote(d, nil); err != nil || s.Note(d) != nil {
		t.Errorf("SetNote of nothing = %v, note %q; want none", err, s.Note(d))
	}
}

func TestANoteThatTheDiskDoesNotTakeIsAnError(t *testing.T) {
	bad := &fault{err: syscall.ENOSPC, ops: "create", only: ".meta"}
	bad.off.Store(true)
	s := openFaulty(t, bad, nil)
	data := blobstoretest.Data(1, 1000)
	d := blobstoretest.Digest(data)
	if err := s.Put(t.Context(), d, data, pushed); err != nil {
		t.Fatal(err)
	}
	bad.off.Store(false)
	if err := s.SetNote(d, []byte("note")); !errors.Is(err, blobstore.ErrNotKept) || s.Note(d) != nil {
		t.Errorf("SetNote = %v, note %q; want ErrNotKept and none", err, s.Note(d))
	}
}

func TestEachHostedSeesWhatIsHostedNow(t *testing.T) {
	s := openStore(t, nil)
	var digests []oci.Digest
	for k := range uint64(4) {
		data := blobstoretest.Data(k, 1000)
		o := blobstore.Origin{Repository: nginx}
		if k > 0 {
			o = pushed
		}
		if err := s.Put(t.Context(), blobstoretest.Digest(data), data, o); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, blobstoretest.Digest(data))
	}
	want := func(digests ...oci.Digest) {
		t.Helper()
		var got []oci.Digest
		s.EachHosted(func(d oci.Digest, size int64) bool {
			if size != 1000 {
				t.Errorf("size of %s = %d; want 1000", d, size)
			}
			got = append(got, d)
			return true
		})
		order := func(a, b oci.Digest) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(got, order)
		digests = slices.SortedFunc(slices.Values(digests), order)
		if !slices.Equal(got, digests) {
			t.Errorf("hosted: %v; want %v", got, digests)
		}
	}
	want(digests[1:]...)
	before := s.HostedChanges()
	if err := errors.Join(s.SetHosted(digests[1], true), s.Link(nginx, digests[1])); err != nil || s.HostedChanges() != before {
		t.Errorf("what changed nothing counts as a change (%v)", err)
	}
	if err := errors.Join(s.SetHosted(digests[0], true), s.SetHosted(digests[1], false), s.Delete(digests[2])); err != nil {
		t.Fatal(err)
	}
	want(digests[0], digests[3])
	if s.HostedChanges() != before+3 {
		t.Errorf("%d changes; want 3", s.HostedChanges()-before)
	}
}
