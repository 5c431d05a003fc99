package blobstore_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

var nginx = oci.Repository{Upstream: "docker.io", Path: "library/nginx"}

func TestASecondStoreOnOneDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir, nil)
	_, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if locked, ok := errors.AsType[*blobstore.LockedError](err); !ok || locked.PID != os.Getpid() {
		t.Errorf("second Open = %v; want a LockedError that names process %d", err, os.Getpid())
	}
}

func TestAClosedStoreCanBeOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s := openDir(t, dir, nil)
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close() = %v; want nil", err)
			}
		}
	}
}

// damages are what can happen to an index between two runs.
func damages() map[string]func(t *testing.T, index string) {
	cut := func(part int64) func(*testing.T, string) {
		return func(t *testing.T, index string) {
			info, err := os.Stat(index)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(index, info.Size()*part/100); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]func(*testing.T, string){
		"Untouched": func(*testing.T, string) {},
		"Lost": func(t *testing.T, index string) {
			if err := os.Remove(index); err != nil {
				t.Fatal(err)
			}
		},
		"CutToNothing":  cut(0),
		"CutToATenth":   cut(10),
		"CutToHalf":     cut(50),
		"CutByATwelfth": cut(92),
		"Garbage": func(t *testing.T, index string) {
			if err := os.WriteFile(index, blobstoretest.Data(9, 100_000), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"GarbageInside": func(t *testing.T, index string) {
			f, err := os.OpenFile(index, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			junk := make([]byte, 512)
			for at := int64(2 * os.Getpagesize()); at < info.Size(); at += int64(os.Getpagesize()) {
				_, _ = rand.Read(junk)
				if _, err := f.WriteAt(junk, at); err != nil {
					t.Fatal(err)
				}
			}
		},
		"ADirectory": func(t *testing.T, index string) {
			if err := errors.Join(os.Remove(index), os.Mkdir(index, 0o755)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestAnIndexThatIsDamagedIsRebuiltFromTheFiles(t *testing.T) {
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openDir(t, dir, nil)
			var all [][]byte
			for k := range 30 {
				all = append(all, blobstoretest.Data(uint64(k), 1000*k+1))
				blobstoretest.Commit(t, s, all[k])
			}
			raw := []byte(`{"mediaType":"x"}`)
			if err := s.PutManifest(blobstoretest.Digest(raw), oci.MediaTypeOCIManifest, raw, nginx); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(dir, "index.db"))
			s = openDir(t, dir, nil)
			if u := s.Usage(); u.Blobs != 31 || u.Alarm != "" {
				t.Errorf("Usage = %+v; want 31 blobs and no alarm", u)
			}
			for k, data := range all {
				got, err := blobstoretest.Read(t, s, blobstoretest.Digest(data))
				if err != nil || !bytes.Equal(got, data) || !s.Linked(nginx, blobstoretest.Digest(data)) {
					t.Errorf("blob %d: %d bytes, %v; want it whole and linked", k, len(got), err)
				}
			}
			if mediaType, got, err := s.Manifest(blobstoretest.Digest(raw)); err != nil ||
				mediaType != oci.MediaTypeOCIManifest || !bytes.Equal(got, raw) {
				t.Errorf("Manifest = %s, %q, %v; want it with its media type", mediaType, got, err)
			}
		})
	}
}

func TestAnOlderIndexGivesWayToTheFiles(t *testing.T) {
	dir := t.TempDir()
	index := filepath.Join(dir, "index.db")
	s := openDir(t, dir, nil)
	kept, gone, late := []byte("kept"), []byte("gone"), []byte("late")
	blobstoretest.Commit(t, s, kept)
	blobstoretest.Commit(t, s, gone)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, nil)
	other := oci.Repository{Upstream: "ghcr.io", Path: "org/app"}
	blobstoretest.Commit(t, s, late)
	if err := errors.Join(s.Link(other, blobstoretest.Digest(kept)), s.Delete(blobstoretest.Digest(gone)), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(index, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir, nil)
	if !s.Linked(other, blobstoretest.Digest(kept)) {
		t.Error("link made after the index was copied is lost; want it from the sidecar")
	}
	if _, err := s.Open(blobstoretest.Digest(gone)); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("Open of a blob that only the index has = %v; want oci.ErrNotFound", err)
	}
	if got, err := blobstoretest.Read(t, s, blobstoretest.Digest(late)); err != nil || !bytes.Equal(got, late) {
		t.Errorf("read of a blob that the index lacks = %q, %v; want it", got, err)
	}
}

func TestLeftoversAreCleanedOrAdopted(t *testing.T) {
	data := blobstoretest.Data(1, 2*blobstoretest.PieceSize)
	d := blobstoretest.Digest(data)
	orphan := blobstoretest.Digest([]byte("orphan"))
	junk := func(dir string) []string {
		return []string{
			filepath.Join(dir, "partial", "put-1-1.tmp"),
			filepath.Join(dir, "partial", "whatever"),
			filepath.Join(dir, "partial", "sha256-"+orphan.Hex()+".data"),
			filepath.Join(dir, "partial", "sha256-"+orphan.Hex()+".state"),
			blobFile(dir, d) + ".meta.tmp",
			filepath.Join(filepath.Dir(blobFile(dir, d)), d.Hex()[:2]+orphan.Hex()[2:]+".meta"),
		}
	}
	s, dir := stored(t, data, func(dir string) {
		for _, name := range junk(dir) {
			if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(blobFile(dir, d)+".meta", []byte("not a sidecar"), 0o600); err != nil {
			t.Fatal(err)
		}
	}, nil)
	for _, name := range junk(dir) {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("leftover %s is still there", name)
		}
	}
	if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) || len(s.Links(d)) != 0 {
		t.Errorf("blob with a broken sidecar: %d bytes, %v, links %v; want it whole, linked to none", len(got), err, s.Links(d))
	}
}

// crash closes nothing: it copies what is on disk, as a kill at this moment would leave it, and opens the copy.
func crash(t *testing.T, dir string, change func(*blobstore.Config)) *blobstore.Store {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return openDir(t, copied, change)
}

func TestAPartialSurvivesARestartWithItsCheckedPieces(t *testing.T) {
	data := blobstoretest.Data(2, 10*blobstoretest.PieceSize+5)
	l := blobstoretest.List(t, data)
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 4, 10} {
		if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.WriteAhead(7*blobstoretest.PieceSize, data[7*blobstoretest.PieceSize:][:100]), s.Link(nginx, l.Digest())); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flipBit(t, filepath.Join(dir, "partial", "sha256-"+l.Digest().Hex()+".data"), 4*blobstoretest.PieceSize)

	var heard rots
	s = openDir(t, dir, func(c *blobstore.Config) { c.OnRot = heard.on })
	p, err = s.FindPartial(l.Digest())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.List().ID() != l.ID() || p.List().Known() != l.Count() || p.Bitmap().Count() != 4 || !s.Linked(nginx, l.Digest()) {
		t.Errorf("after a restart: list %v with %d known, %d pieces; want the same list and 4 pieces, linked",
			p.List().ID(), p.List().Known(), p.Bitmap().Count())
	}
	if !p.AheadHas(7*blobstoretest.PieceSize, 100) {
		t.Error("unchecked bytes are gone; want them kept")
	}
	buf := make([]byte, blobstoretest.PieceSize)
	if n, err := p.ReadPiece(1, buf); err != nil || !bytes.Equal(buf[:n], blobstoretest.Piece(l, data, 1)) {
		t.Errorf("ReadPiece(1) = %d, %v; want its bytes", n, err)
	}
	if _, err := p.ReadPiece(4, buf); err == nil || p.Has(4) || len(heard.pieces) != 1 {
		t.Errorf("ReadPiece of a piece that rotted meanwhile = %v, has %v, heard %v; want it refused and missing", err, p.Has(4), heard.pieces)
	}
	for i := range l.Count() {
		if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(blobstore.Origin{}); err != nil {
		t.Fatal(err)
	}
	if got, err := blobstoretest.Read(t, s, l.Digest()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %d bytes, %v; want all", len(got), err)
	}
}

func TestReadersOfAResumedPartialNeedNoNewPieces(t *testing.T) {
	data := blobstoretest.Data(3, 6*blobstoretest.PieceSize)
	l := blobstoretest.List(t, data)
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	p, err := s.OpenPartial(l)
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Count() {
		if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	_ = s.Close()
	s = openDir(t, dir, nil)
	// The midstates are not known yet, as on a node that has just registered again.
	fresh, err := piece.FromHeader(l.Header())
	if err != nil {
		t.Fatal(err)
	}
	p, err = s.OpenPartial(fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var got bytes.Buffer
	if err := r.WriteRange(t.Context(), &got, 0, r.Size()); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("read of a resumed partial: %d bytes, %v; want all", got.Len(), err)
	}
}

func TestAnotherListKeepsThePiecesThatItConfirms(t *testing.T) {
	data := blobstoretest.Data(4, 6*blobstoretest.PieceSize)
	forged := bytes.Clone(data)
	forged[3*blobstoretest.PieceSize] ^= 1
	d := blobstoretest.Digest(data)
	old := piece.Issue(d, int64(len(data)), blobstoretest.PieceSize, "liar")
	h := piece.NewHasher(old)
	for i := range 5 {
		if err := h.Piece(blobstoretest.Piece(old, forged, i)); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, nil)
	p, err := s.OpenPartial(old)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := p.WritePiece(i, blobstoretest.Piece(old, forged, i)); err != nil {
			t.Fatal(err)
		}
	}
	p.Fail(&oci.MismatchError{Digest: d, Piece: -1})
	p.Close()
	p, err = s.OpenPartial(blobstoretest.List(t, data))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Has(3) || p.Has(4) || !p.Has(0) || !p.Has(2) {
		t.Errorf("pieces kept under another list: %x; want 0 to 2, where the lists agree", p.Bitmap().Bytes())
	}
	for i := range p.List().Count() {
		if err := p.WritePiece(i, blobstoretest.Piece(p.List(), data, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(blobstore.Origin{}); err != nil {
		t.Fatal(err)
	}
	if got, err := blobstoretest.Read(t, s, d); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %d bytes, %v; want all", len(got), err)
	}
}

func TestTheListOfABlobCommittedJustBeforeAKillIsAdopted(t *testing.T) {
	data := blobstoretest.Data(5, 4*blobstoretest.PieceSize)
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	blobstoretest.Commit(t, s, data)
	s = crash(t, dir, nil)
	b, err := s.Open(blobstoretest.Digest(data))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if l := b.List(); l == nil || l.PieceSize() != blobstoretest.PieceSize {
		t.Errorf("List() = %v; want the list that was left beside until the index had it", l)
	}
}
