package hub

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
)

// errDigest is the answer to bytes that are not those of their digest.
var errDigest = errors.New("provided digest did not match uploaded content")

// upload is a blob on its way in: in memory, or in a file that gets its name at the end.
type upload struct {
	mu   sync.Mutex
	file *os.File // nil: in memory
	data bytes.Buffer
	hash hash.Hash // SHA-256 of what has come
	size int64
}

// newUpload starts an upload, to a file if dir is not empty.
func newUpload(dir string) (*upload, error) {
	u := &upload{hash: sha256.New()}
	if dir == "" {
		return u, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	u.file, err = os.CreateTemp(dir, ".upload-*")
	return u, err
}

// add appends everything that r gives and returns the size so far.
func (u *upload) add(r io.Reader) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var to io.Writer = &u.data
	if u.file != nil {
		to = u.file
	}
	n, err := io.CopyBuffer(io.MultiWriter(to, u.hash), struct{ io.Reader }{r}, make([]byte, 256<<10))
	u.size += n
	return u.size, err
}

// finish checks the digest and returns the blob. The upload is over either way.
func (u *upload) finish(dir string, d digest.Digest) (*blob, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := &blob{size: u.size}
	if u.file == nil {
		b.data = u.data.Bytes()
	} else {
		b.path = u.file.Name()
	}
	if err := u.check(b, d); err != nil {
		u.drop()
		return nil, err
	}
	if u.file == nil {
		return b, nil
	}
	b.path = filepath.Join(dir, d.Algorithm().String()+"-"+d.Encoded())
	if err := errors.Join(u.file.Close(), os.Rename(u.file.Name(), b.path)); err != nil {
		return nil, err
	}
	return b, nil
}

// check compares the digest; one that is no SHA-256 costs a second reading.
func (u *upload) check(b *blob, d digest.Digest) error {
	if d.Algorithm() == digest.SHA256 {
		if digest.NewDigest(digest.SHA256, u.hash) != d {
			return errDigest
		}
		return nil
	}
	content, err := b.open()
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, content); err != nil {
		return err
	}
	if !verifier.Verified() {
		return errDigest
	}
	return nil
}

// drop removes what has come so far.
func (u *upload) drop() {
	if u.file != nil {
		_ = u.file.Close()
		_ = os.Remove(u.file.Name())
	}
}

// serveUpload takes blobs: in one request, or as a session of POST, any PATCHes and a PUT.
func (m *memory) serveUpload(w http.ResponseWriter, r *http.Request, q request) {
	switch q.method {
	case http.MethodPost:
		m.beginUpload(w, r, q)
	case http.MethodPatch, http.MethodPut:
		m.mu.Lock()
		u := m.uploads[q.ref]
		m.mu.Unlock()
		if u == nil {
			writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
			return
		}
		if q.method == http.MethodPut {
			m.endUpload(w, r, q, u)
			return
		}
		size, err := u.add(r.Body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body cannot be read")
			return
		}
		accepted(w, q, size)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
}

func (m *memory) beginUpload(w http.ResponseWriter, r *http.Request, q request) {
	query := r.URL.Query()
	if d := digest.Digest(query.Get("mount")); d != "" && m.mount(q.repo, query.Get("from"), d) {
		created(w, q.repo, d)
		return
	}
	u, err := newUpload(m.dir)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	m.mu.Lock()
	m.next++
	q.ref = fmt.Sprintf("upload-%d", m.next)
	m.uploads[q.ref] = u
	m.mu.Unlock()
	if query.Get("digest") != "" {
		m.endUpload(w, r, q, u)
		return
	}
	accepted(w, q, 0)
}

// endUpload adds the last bytes, checks the digest and stores the blob.
func (m *memory) endUpload(w http.ResponseWriter, r *http.Request, q request, u *upload) {
	m.mu.Lock()
	delete(m.uploads, q.ref)
	m.mu.Unlock()
	d, err := digest.Parse(r.URL.Query().Get("digest"))
	if err != nil {
		u.drop()
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	if _, err := u.add(r.Body); err != nil {
		u.drop()
		writeError(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body cannot be read")
		return
	}
	b, err := u.finish(m.dir, d)
	if errors.Is(err, errDigest) {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	m.link(q.repo, d, b)
	created(w, q.repo, d)
}

// accepted says how far a session is.
func accepted(w http.ResponseWriter, q request, size int64) {
	w.Header().Set("Location", "/v2/"+q.repo+"/blobs/uploads/"+q.ref)
	w.Header().Set("Docker-Upload-Uuid", q.ref)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	w.WriteHeader(http.StatusAccepted)
}

func created(w http.ResponseWriter, repo string, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+d.String())
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

// close drops the uploads that have not ended.
func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.uploads {
		u.drop()
	}
	clear(m.uploads)
}
