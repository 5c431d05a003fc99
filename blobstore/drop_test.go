package blobstore_test

import (
	"sync"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func TestWhatGoesUnaskedUnderPressureIsToldOf(t *testing.T) {
	var mu sync.Mutex
	dropped := make(map[oci.Digest]bool)
	s := openStore(t, func(c *blobstore.Config) {
		c.MaxBytes, c.ScrubRate = 4*mebi, 0
		c.OnDrop = func(d oci.Digest) {
			mu.Lock()
			defer mu.Unlock()
			dropped[d] = true
		}
	})
	var all [][]byte
	for k := range uint64(7) {
		all = append(all, blobstoretest.Data(k, mebi))
		blobstoretest.Commit(t, s, all[k])
	}
	mu.Lock()
	defer mu.Unlock()
	if len(dropped) != 3 {
		t.Errorf("told of %d blobs that went; want 3", len(dropped))
	}
	for _, data := range all {
		if d := blobstoretest.Digest(data); dropped[d] == has(s, data) {
			t.Errorf("%s: here %v, told that it went %v", d, has(s, data), dropped[d])
		}
	}
}

func TestPartialBlobsThatNobodyHasOpenAreListed(t *testing.T) {
	s := openStore(t, func(*blobstore.Config) {})
	some, ahead := blobstoretest.Data(1, 3*mebi), blobstoretest.Data(2, 3*mebi)
	l := blobstoretest.List(t, some)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WritePiece(1, blobstoretest.Piece(l, some, 1)); err != nil {
		t.Fatal(err)
	}
	q, err := s.OpenPartial(blobstoretest.List(t, ahead))
	if err != nil {
		t.Fatal(err)
	}
	if err := q.WriteAhead(mebi, ahead[mebi:2*mebi]); err != nil {
		t.Fatal(err)
	}
	if got := s.Partials(); len(got) != 0 {
		t.Errorf("Partials = %v while they are open; want none", got)
	}
	p.Close()
	q.Close()
	if got := s.Partials(); len(got) != 1 || got[0] != blobstoretest.Digest(some) {
		t.Errorf("Partials = %v; want the one that has a checked piece", got)
	}
}
