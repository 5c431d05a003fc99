package blobstoretest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// Commit puts data into s by way of a partial blob.
func Commit(t testing.TB, s *blobstore.Store, data []byte) {
	t.Helper()
	l := List(t, data)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatalf("OpenPartial: %v", err)
	}
	defer p.Close()
	for i := range l.Count() {
		if err := p.WritePiece(i, Piece(l, data, i)); err != nil {
			t.Fatalf("WritePiece(%d): %v", i, err)
		}
	}
	if err := p.Commit(blobstore.Origin{Repository: repo}); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// Read is all of the whole blob d.
func Read(t testing.TB, s *blobstore.Store, d oci.Digest) ([]byte, error) {
	t.Helper()
	b, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	r, err := b.NewReader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var got bytes.Buffer
	err = r.WriteRange(t.Context(), &got, 0, b.Size())
	return got.Bytes(), err
}

func commit(t *testing.T, s *blobstore.Store) {
	data := Data(20, 5*PieceSize+1)
	d := Digest(data)
	Commit(t, s, data)
	got, err := Read(t, s, d)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read after Commit: %d bytes, %v; want all", len(got), err)
	}
	info, err := s.Stat(d)
	if err != nil || info.Size != int64(len(data)) || info.Origin != repo || !info.Checked {
		t.Errorf("Stat = %+v, %v; want the size, the origin, checked", info, err)
	}
	if _, err := s.OpenPartial(List(t, data)); !errors.Is(err, blobstore.ErrWhole) {
		t.Errorf("OpenPartial of a whole blob = %v; want ErrWhole", err)
	}
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	l := b.List()
	if l == nil || l.Known() != l.Count() || l.PieceSize() != PieceSize {
		t.Fatalf("List() = %v; want the complete list of the partial blob", l)
	}
	buf := make([]byte, PieceSize)
	for i := range l.Count() {
		n, err := b.ReadPiece(t.Context(), i, buf)
		if err != nil || !bytes.Equal(buf[:n], Piece(l, data, i)) {
			t.Errorf("ReadPiece(%d) = %d, %v; want its bytes", i, n, err)
		}
	}
	if _, err := b.ReadPiece(t.Context(), l.Count(), buf); err == nil {
		t.Error("ReadPiece past the end = nil; want an error")
	}
	seen := 0
	s.Each(func(got oci.Digest, size int64) bool {
		if got != d || size != int64(len(data)) {
			t.Errorf("Each: %v of %d bytes; want %v of %d", got, size, d, len(data))
		}
		seen++
		return true
	})
	if u := s.Usage(); seen != 1 || u.Blobs != 1 || u.Bytes != int64(len(data)) || u.Partials != 0 || u.Alarm != "" {
		t.Errorf("Each saw %d, Usage = %+v; want one whole blob and no alarm", seen, u)
	}
	if err := s.Delete(d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Open after Delete = %v; want oci.ErrNotFound", err)
	}
}

func incomplete(t *testing.T, s *blobstore.Store) {
	data := Data(21, 3*PieceSize)
	p := open(t, s, data)
	for _, i := range []int{0, 2} {
		if err := p.WritePiece(i, Piece(p.List(), data, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(blobstore.Origin{}); !errors.Is(err, blobstore.ErrIncomplete) {
		t.Errorf("Commit = %v; want ErrIncomplete", err)
	}
	if _, err := s.Stat(Digest(data)); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Stat = %v; want oci.ErrNotFound", err)
	}
}

func acrossCommit(t *testing.T, s *blobstore.Store) {
	data := Data(22, 6*PieceSize)
	l := List(t, data)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for i := range l.Count() {
		if err := p.WritePiece(i, Piece(l, data, i)); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	if err := r.WriteRange(t.Context(), &got, 0, PieceSize); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Commit(blobstore.Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	if err := s.Delete(l.Digest()); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteRange(t.Context(), &got, PieceSize, 5*PieceSize); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("reader across Commit and Delete: %d bytes, %v; want all", got.Len(), err)
	}
}

func piecesStay(t *testing.T, s *blobstore.Store) {
	data := Data(23, 4*PieceSize)
	l := List(t, data)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WritePiece(2, Piece(l, data, 2)); err != nil {
		t.Fatal(err)
	}
	p.Close()
	p, err = s.FindPartial(l.Digest())
	if err != nil {
		t.Fatalf("FindPartial after Close = %v; want the partial blob", err)
	}
	if !p.Has(2) || p.Bitmap().Count() != 1 || p.List().ID() != l.ID() {
		t.Errorf("found: has 2 %v, %d pieces; want piece 2 alone", p.Has(2), p.Bitmap().Count())
	}
	p.Drop()
	p.Close()
	if _, err := s.FindPartial(l.Digest()); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("FindPartial after Drop = %v; want oci.ErrNotFound", err)
	}
}

func put(t *testing.T, s *blobstore.Store) {
	raw := []byte(`{"schemaVersion":2}`)
	d := Digest(raw)
	if err := s.PutManifest(d, oci.MediaTypeOCIManifest, append([]byte("x"), raw...), repo); err == nil {
		t.Error("PutManifest of other bytes = nil; want a mismatch")
	} else if _, ok := errors.AsType[*oci.MismatchError](err); !ok {
		t.Errorf("PutManifest of other bytes = %v; want a mismatch", err)
	}
	if err := s.PutManifest(d, oci.MediaTypeOCIManifest, raw, repo); err != nil {
		t.Fatal(err)
	}
	mediaType, got, err := s.Manifest(d)
	if err != nil || mediaType != oci.MediaTypeOCIManifest || !bytes.Equal(got, raw) {
		t.Errorf("Manifest = %s, %q, %v; want it back", mediaType, got, err)
	}
	if !s.Linked(repo, d) {
		t.Error("Linked = false; want the repository that it was put through")
	}
	if _, _, err := s.Manifest(Digest([]byte("none"))); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Manifest of none = %v; want oci.ErrNotFound", err)
	}
	if err := s.Put(t.Context(), Digest(nil), nil, blobstore.Origin{}); err != nil {
		t.Errorf("Put of no bytes = %v; want nil", err)
	}
	if got, err := Read(t, s, Digest(nil)); err != nil || len(got) != 0 {
		t.Errorf("read of the blob of no bytes = %d bytes, %v; want none", len(got), err)
	}
}

func links(t *testing.T, s *blobstore.Store) {
	data := Data(24, 2*PieceSize)
	d := Digest(data)
	other := oci.Repository{Upstream: "ghcr.io", Path: "org/app"}
	if err := s.Link(repo, d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Link of no blob = %v; want oci.ErrNotFound", err)
	}
	p := open(t, s, data)
	if err := s.Link(other, d); err != nil || !s.Linked(other, d) {
		t.Errorf("Link of a partial blob = %v, linked %v; want it linked", err, s.Linked(other, d))
	}
	for i := range 2 {
		if err := p.WritePiece(i, Piece(p.List(), data, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(blobstore.Origin{Repository: repo}); err != nil {
		t.Fatal(err)
	}
	if !s.Linked(repo, d) || !s.Linked(other, d) || len(s.Links(d)) != 2 {
		t.Errorf("Links after Commit = %v; want both repositories", s.Links(d))
	}
	if err := s.Unlink(repo, d); err != nil || s.Linked(repo, d) || !s.Linked(other, d) {
		t.Errorf("Unlink = %v, Links %v; want the other alone", err, s.Links(d))
	}
}

func ahead(t *testing.T, s *blobstore.Store) {
	data := Data(25, 4*PieceSize)
	p := open(t, s, data)
	if err := p.WritePiece(2, Piece(p.List(), data, 2)); err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Repeat([]byte{1}, PieceSize)
	if err := p.WriteAhead(2*PieceSize, wrong); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, PieceSize)
	if _, err := p.ReadPiece(2, buf); err != nil || !bytes.Equal(buf, Piece(p.List(), data, 2)) {
		t.Errorf("checked piece after WriteAhead over it: %v; want it untouched", err)
	}
	if err := p.WriteAhead(PieceSize+10, data[PieceSize+10:3*PieceSize]); err != nil {
		t.Fatal(err)
	}
	if p.Has(1) || p.AheadHas(PieceSize, PieceSize) || !p.AheadHas(PieceSize+10, 2*PieceSize-10) {
		t.Errorf("has 1 %v, ahead whole piece %v, ahead rest %v; want false false true",
			p.Has(1), p.AheadHas(PieceSize, PieceSize), p.AheadHas(PieceSize+10, 2*PieceSize-10))
	}
	got := make([]byte, 100)
	if ok, err := p.ReadAhead(PieceSize+10, got); !ok || err != nil || !bytes.Equal(got, data[PieceSize+10:PieceSize+110]) {
		t.Errorf("ReadAhead = %v, %v; want the bytes", ok, err)
	}
	r, err := p.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var out bytes.Buffer
	if err := r.WriteRangeAhead(deadline(t), &out, PieceSize+10, 2*PieceSize-10); err != nil ||
		!bytes.Equal(out.Bytes(), data[PieceSize+10:3*PieceSize]) {
		t.Errorf("WriteRangeAhead: %d bytes, %v; want those ahead and those checked", out.Len(), err)
	}
	p.DropAhead(PieceSize, PieceSize)
	if p.AheadHas(PieceSize+10, 1) {
		t.Error("AheadHas after DropAhead = true; want false")
	}
}
