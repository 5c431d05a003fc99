package blobstore_test

import (
	"bytes"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
)

// roundTrip holds a parser to this: no panic, and what it accepts is written in a form that reads the same.
func roundTrip(t *testing.T, raw []byte, parse func([]byte) ([]byte, bool)) {
	t.Helper()
	written, ok := parse(raw)
	if !ok {
		return
	}
	again, ok := parse(written)
	if !ok || !bytes.Equal(written, again) {
		t.Errorf("%q was accepted and written as %q, which reads as %q, %v", raw, written, again, ok)
	}
}

func FuzzSidecar(f *testing.F) {
	f.Add([]byte(`{"size":5,"media_type":"x","origin":{"Upstream":"docker.io","Path":"library/nginx"},"links":[{"Upstream":"b","Path":"a"},{"Upstream":"a","Path":"a"}]}`))
	f.Add([]byte(`{"size":-1}`))
	f.Add([]byte(`{"links":[{},{"Upstream":"a","Path":"b"},{"Upstream":"a","Path":"b"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		roundTrip(t, raw, func(raw []byte) ([]byte, bool) {
			out, err := blobstore.ParseMeta(raw)
			return out, err == nil
		})
	})
}

func FuzzPartialState(f *testing.F) {
	data := blobstoretest.Data(1, 3*blobstoretest.PieceSize)
	s := openStore(f, nil)
	p, err := s.OpenPartial(blobstoretest.List(f, data))
	if err != nil {
		f.Fatal(err)
	}
	defer p.Close()
	if err := p.WritePiece(1, blobstoretest.Piece(p.List(), data, 1)); err != nil {
		f.Fatal(err)
	}
	if err := p.WriteAhead(3, data[3:100]); err != nil {
		f.Fatal(err)
	}
	magic := []byte("pullonce partial 1\n")
	f.Add(blobstore.StateOf(p)[len(magic)+4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := append(bytes.Clone(magic), blobstore.Seal(body)...) // past the checksum, so that the rest is tried
		roundTrip(t, raw, func(raw []byte) ([]byte, bool) {
			out, err := blobstore.ParseState(raw)
			return out, err == nil
		})
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("0123456789abcdef value"))
	f.Fuzz(func(t *testing.T, body []byte) { roundTrip(t, blobstore.Seal(body), blobstore.ParseRecord) })
}

func FuzzIndexedBlob(f *testing.F) {
	f.Add([]byte("0123456789abcdef01234567{\"size\":5}"))
	f.Fuzz(func(t *testing.T, body []byte) { roundTrip(t, blobstore.Seal(body), blobstore.ParseKnown) })
}

// The set of ranges is compared with a plain set of bytes.
func FuzzExtents(f *testing.F) {
	f.Add([]byte{1, 5, 3, 9, 20, 30, 9, 20})
	f.Fuzz(func(t *testing.T, moves []byte) {
		var set blobstore.Extents
		var plain [256]bool
		for ; len(moves) >= 2; moves = moves[2:] {
			from, to := moves[0], moves[1]
			set.Add(int64(from), int64(to))
			for i := int(from); i < int(to); i++ {
				plain[i] = true
			}
		}
		last := int64(-1)
		for _, r := range set.Ranges() {
			if r[0] <= last || r[1] <= r[0] {
				t.Fatalf("ranges %v are not sorted and apart", set.Ranges())
			}
			last = r[1]
		}
		for off := range 255 {
			want := off
			for want < 255 && plain[want] {
				want++
			}
			if got := set.End(int64(off)); got != int64(want) {
				t.Fatalf("End(%d) of %v = %d; want %d", off, set.Ranges(), got, want)
			}
		}
	})
}
