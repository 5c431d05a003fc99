package blobstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// maxAppends is how many uploads take bytes at once, each in buffers of its own: however many send, memory stays
// bounded. One more waits for appendWait and is refused then.
const (
	maxAppends = 128
	appendWait = 10 * time.Second
)

// uploads are the sessions by which clients send blobs. Their files are the truth, as of all else.
type uploads struct {
	appends chan struct{} // one slot for each upload that takes bytes now

	mu     sync.Mutex
	known  map[string]*session
	guests int   // sessions of known that peers send
	bytes  int64 // that are on disk
	room   int64 // that are on disk or have their room
}

// A session is an upload as the store knows it whether or not somebody has it open.
type session struct {
	id      string
	guest   bool // a peer sends it: it has no state on disk, and nobody goes on with it
	held    bool // somebody has it open
	bytes   int64
	room    int64
	lastUse time.Time

	hash    string        // the algorithm by which its bytes are hashed as they come
	whole   oci.Digest    // all bytes are there, and are this blob
	gone    bool          // it was committed or removed
	changed chan struct{} // closed at the next change; nil when nobody waits for one
}

// wake tells the followers that something has changed. The caller holds the lock.
func (se *session) wake() {
	if se.changed != nil {
		close(se.changed)
		se.changed = nil
	}
}

func newUploads() *uploads {
	return &uploads{appends: make(chan struct{}, maxAppends), known: make(map[string]*session)}
}

// enter takes a slot to append in, leave gives it back.
func (u *uploads) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, appendWait, ErrTooManyUploads)
	defer cancel()
	select {
	case u.appends <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (u *uploads) leave() { <-u.appends }

// set notes how many bytes of a session are on disk, and how many have their room.
func (u *uploads) set(se *session, bytes, room int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes += bytes - se.bytes
	u.room += room - se.room
	if bytes != se.bytes {
		se.wake()
	}
	se.bytes, se.room = bytes, room
}

// hashedBy notes the algorithm of a session.
func (u *uploads) hashedBy(se *session, algorithm string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	se.hash = algorithm
}

// complete notes that all bytes of a session are there, and that they are d.
func (u *uploads) complete(se *session, d oci.Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	se.whole = d
	se.wake()
}

// total is how many clients send, the bytes that all sessions have on disk and the bytes that are theirs to take.
func (u *uploads) total() (n int, bytes, room int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.known) - u.guests, u.bytes, u.room
}

// hold takes a session for one holder. The error is oci.ErrNotFound or ErrBusy.
func (u *uploads) hold(id string) (*session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	se := u.known[id]
	switch {
	case se == nil:
		return nil, oci.ErrNotFound
	case se.held:
		return nil, ErrBusy
	}
	se.held, se.lastUse = true, time.Now()
	return se, nil
}

func (u *uploads) giveBack(se *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	se.held, se.lastUse = false, time.Now()
}

func (u *uploads) forget(se *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if se.gone {
		return
	}
	se.gone = true
	u.bytes -= se.bytes
	u.room -= se.room
	if se.guest {
		u.guests--
	}
	delete(u.known, se.id)
	se.wake()
}

// add makes a new session known and held. The error is ErrTooManyUploads.
func (u *uploads) add(id string, limit int) (*session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known)-u.guests >= limit {
		return nil, fmt.Errorf("%w: %d", ErrTooManyUploads, limit)
	}
	se := &session{id: id, held: true, lastUse: time.Now()}
	u.known[id] = se
	return se, nil
}

// addGuest is add for what a peer sends; how many do is up to the caller.
func (u *uploads) addGuest(id string) *session {
	u.mu.Lock()
	defer u.mu.Unlock()
	se := &session{id: id, guest: true, held: true, lastUse: time.Now()}
	u.known[id] = se
	u.guests++
	return se
}

// expired holds the sessions that nobody used for so long.
func (u *uploads) expired(age time.Duration) []*session {
	u.mu.Lock()
	defer u.mu.Unlock()
	var old []*session
	for _, se := range u.known {
		if !se.held && time.Since(se.lastUse) > age {
			se.held = true
			old = append(old, se)
		}
	}
	return old
}

func uploadPath(id, suffix string) string { return path.Join(uploadsDir, id+suffix) }

// newUploadID is a random UUID, which the distribution specification asks for.
func newUploadID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// validUploadID tells whether id could be one of ours; it becomes part of a file's name.
func validUploadID(id string) bool {
	return len(id) == len("00000000-0000-0000-0000-000000000000") && strings.Trim(id, "0123456789abcdef-") == ""
}

// StartUpload begins an upload into repo, which the caller holds until Close, Commit or Cancel. The bytes are hashed by
// algorithm as they come (oci.SHA256 or oci.SHA512); a digest of the other one costs a second pass at the end.
// ErrNotKept: the disk does not take it; ErrTooManyUploads: Config.MaxUploads are going on; oci.ErrDigestInvalid: the
// algorithm is not known.
func (s *Store) StartUpload(repo oci.Repository, algorithm string) (*Upload, error) {
	if algorithm != oci.SHA256 && algorithm != oci.SHA512 {
		return nil, fmt.Errorf("start upload: %w: algorithm %.40q is not supported", oci.ErrDigestInvalid, algorithm)
	}
	id := newUploadID()
	se, err := s.uploads.add(id, s.cfg.MaxUploads)
	if err != nil {
		return nil, fmt.Errorf("start upload: %w", err)
	}
	s.uploads.hashedBy(se, algorithm)
	u := &Upload{store: s, session: se, tally: piece.NewTally(algorithm), repo: repo, created: time.Now()}
	if err := u.create(); err != nil {
		s.removeUpload(se)
		s.raise("upload not started", err)
		return nil, fmt.Errorf("start upload: %w: %w", ErrNotKept, err)
	}
	return u, nil
}

// create makes the files of a new upload. They are synced with the first bytes: a power cut may lose an upload that has
// none, which costs its client no byte. What a peer sends has no state, so that the next start cleans what a crash left.
func (u *Upload) create() (err error) {
	if err := u.store.makeDirs(uploadsDir); err != nil {
		return err
	}
	u.file, err = u.store.disk.open(u.store.root, uploadPath(u.ID(), dataSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil || u.session.guest {
		return err
	}
	if err := u.writeState(false); err != nil {
		_ = u.file.Close()
		return err
	}
	return nil
}

// Upload opens an upload that was begun before, in this run of the node or an earlier one, and goes on where it stands.
// oci.ErrNotFound: there is none of that id (any more); ErrBusy: somebody holds it.
func (s *Store) Upload(id string) (*Upload, error) {
	if !validUploadID(id) {
		return nil, fmt.Errorf("open upload: %w", oci.ErrNotFound)
	}
	se, err := s.uploads.hold(id)
	if err != nil {
		return nil, fmt.Errorf("open upload %s: %w", id, err)
	}
	u := &Upload{store: s, session: se}
	_ = s.root.Chmod(uploadPath(id, dataSuffix), 0o600) // a crash in a commit leaves it read-only; open says what is wrong
	if u.file, err = s.disk.open(s.root, uploadPath(id, dataSuffix), os.O_RDWR); err == nil {
		if err = u.restore(); err != nil {
			_ = u.file.Close()
		}
	}
	switch {
	case os.IsNotExist(err): // somebody else has removed it
		s.removeUpload(se)
		return nil, fmt.Errorf("open upload %s: %w", id, oci.ErrNotFound)
	case err != nil:
		s.uploads.giveBack(se)
		return nil, fmt.Errorf("open upload %s: %w", id, err)
	}
	u.durable = true
	return u, nil
}

// removeUpload removes a session that the caller holds. The state goes first: bytes without a state are nothing.
func (s *Store) removeUpload(se *session) {
	for _, suffix := range []string{infoSuffix, dataSuffix} {
		if err := s.remove(uploadPath(se.id, suffix)); err != nil {
			s.log.Warn("upload not removed", slog.String("upload", se.id), slog.String("error", err.Error()))
		}
	}
	s.uploads.forget(se)
}

// expireUploads removes the uploads that nobody went on with.
func (s *Store) expireUploads() {
	for _, se := range s.uploads.expired(s.cfg.UploadExpiry) {
		s.log.Info("abandoned upload removed", slog.String("upload", se.id), slog.Int64("bytes", se.bytes))
		s.removeUpload(se)
	}
}

// walkUploads makes the uploads of an earlier run known. One without a state, or with fewer bytes than its state was
// written for, is none.
func (s *Store) walkUploads() error {
	files, err := s.list(uploadsDir)
	if err != nil {
		return err
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), infoSuffix)
		if !ok || !validUploadID(id) {
			continue
		}
		st, err := s.readUploadState(id)
		info, statErr := s.root.Stat(uploadPath(id, dataSuffix))
		if err != nil || statErr != nil || info.Size() < st.tally.Size() {
			continue
		}
		se := &session{id: id, lastUse: st.lastUse}
		se.hash = st.tally.Algorithm()
		s.uploads.known[id] = se
		s.uploads.set(se, st.tally.Size(), info.Size())
	}
	for _, f := range files {
		id, _, _ := strings.Cut(f.Name(), ".")
		if s.uploads.known[id] == nil || strings.HasSuffix(f.Name(), tempSuffix) {
			s.clean(path.Join(uploadsDir, f.Name()))
		}
	}
	return nil
}
