package registryapi

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

// startUpload answers POST: a mount, a blob sent at once, or a new upload.
func (h *Handler) startUpload(w *response, r *http.Request, p push) error {
	if !p.mount.IsZero() {
		mounted, err := h.mount(r, p)
		if err != nil {
			return err
		}
		if mounted {
			return h.blobCreated(w, p.request, p.mount)
		}
		p.digest = oci.Digest{} // what could not be mounted is to be sent
	}
	ctx, cancel := h.limited(r)
	defer cancel()
	algorithm := cmp.Or(p.digest.Algorithm(), p.algorithm, p.mount.Algorithm(), oci.SHA256)
	u, err := h.hosting.Start(ctx, p.repo, algorithm)
	if err != nil {
		return because(ctx, err)
	}
	defer func() { _ = u.Close() }()
	if p.digest.IsZero() {
		return h.uploadAnswer(w, p.request, http.StatusAccepted, u.ID(), 0)
	}
	_, err = u.Append(r.Context(), p.body)
	if err == nil {
		err = h.commit(r, u, p.digest)
	}
	if err != nil { // nobody knows its id
		return errors.Join(err, u.Cancel())
	}
	return h.blobCreated(w, p.request, p.digest)
}

// mount tries to link a blob that another repository has. A from that is none only means that it could not.
func (h *Handler) mount(r *http.Request, p push) (bool, error) {
	var from oci.Repository
	if p.from != "" {
		var err error
		if from, err = h.names(r).Repository(p.from, p.query.ns); err != nil {
			return false, nil
		}
	}
	if ok, err := h.mayMount(r, from); err != nil || !ok {
		return false, err
	}
	ctx, cancel := h.committing(r)
	defer cancel()
	mounted, err := h.hosting.Mount(ctx, p.repo, from, p.mount)
	if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrNameUnknown) || errors.Is(err, oci.ErrDenied) {
		return false, nil
	}
	if err != nil {
		return false, because(ctx, err)
	}
	return mounted, nil
}

// mayMount tells whether what from has may be mounted elsewhere: by who may read it. The zero from may be any.
func (h *Handler) mayMount(r *http.Request, from oci.Repository) (bool, error) {
	ctx, cancel := h.limited(r)
	defer cancel()
	if from == (oci.Repository{}) {
		return h.everywhere(ctx, access.Read), nil
	}
	if from.Upstream != h.hosting.Prefix() {
		return false, nil
	}
	err := h.allow(ctx, from.Path, access.Read)
	if errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied) {
		return false, nil
	}
	return err == nil, err
}

func (h *Handler) commit(r *http.Request, u Upload, d oci.Digest) error {
	ctx, cancel := h.committing(r)
	defer cancel()
	if err := u.Commit(ctx, d); err != nil {
		if _, wrong := errors.AsType[*oci.MismatchError](err); wrong {
			return err
		}
		return because(ctx, err)
	}
	return nil
}

// withUpload has f go on with the upload of p, which no other request does meanwhile.
func (h *Handler) withUpload(r *http.Request, p push, f func(u Upload) error) error {
	key := turnKey{p.repo, p.id}
	ctx, cancel := h.limited(r)
	defer cancel()
	mine, err := h.turns.take(ctx, key, p.body)
	if err != nil {
		return &failure{
			status: http.StatusServiceUnavailable, code: codeUnavailable, retry: retryBusy,
			message: "another request goes on with this upload",
		}
	}
	defer h.turns.end(key, mine)
	u, err := h.hosting.Upload(ctx, p.repo, p.id)
	if err != nil {
		return because(ctx, err)
	}
	defer func() { _ = u.Close() }()
	defer h.turns.opened(mine, u)()
	return f(u)
}

// appendUpload answers PATCH, with Content-Range or without.
func (h *Handler) appendUpload(w *response, r *http.Request, p push) error {
	return h.withUpload(r, p, func(u Upload) error {
		if err := h.appendBody(w, r, p, u); err != nil {
			return err
		}
		return h.uploadAnswer(w, p.request, http.StatusAccepted, p.id, u.Offset())
	})
}

// finishUpload answers PUT, with a last part or without. An upload that turns out to be another blob is removed: none
// of its bytes can be told from the wrong ones.
func (h *Handler) finishUpload(w *response, r *http.Request, p push) error {
	if p.digest.IsZero() {
		return badRequest(codeDigestInvalid, "the digest is missing", "digest")
	}
	return h.withUpload(r, p, func(u Upload) error {
		if err := h.appendBody(w, r, p, u); err != nil {
			return err
		}
		if err := h.commit(r, u, p.digest); err != nil {
			if _, wrong := errors.AsType[*oci.MismatchError](err); wrong {
				return errors.Join(err, u.Cancel())
			}
			return err
		}
		return h.blobCreated(w, p.request, p.digest)
	})
}

// appendBody adds the request's body. One that its Content-Range places elsewhere than at the end is refused unread.
func (h *Handler) appendBody(w *response, r *http.Request, p push, u Upload) error {
	source := io.Reader(p.body)
	length := int64(-1)
	if text := r.Header.Get("Content-Range"); text != "" {
		first, n, ok := parseContentRange(text)
		switch {
		case !ok:
			return badRequest(codeUploadInvalid, "invalid Content-Range", "")
		case first != u.Offset():
			uploadHeader(w.Header(), p.request, p.id, u.Offset())
			return &failure{
				status: http.StatusRequestedRangeNotSatisfiable, code: codeUploadInvalid,
				message: "the part does not begin where the upload ends",
			}
		case r.ContentLength >= 0 && r.ContentLength != n:
			return badRequest(codeSizeInvalid, "Content-Range and Content-Length differ", "")
		}
		source, length = io.LimitReader(source, n), n
	}
	n, err := u.Append(r.Context(), source)
	if err != nil {
		return err
	}
	if length >= 0 && n != length {
		return badRequest(codeSizeInvalid, "the part is shorter than its Content-Range", "")
	}
	return nil
}

// parseContentRange reads "first-last", as the specification has it, or the form of RFC 9110, "bytes first-last/size".
func parseContentRange(text string) (first, n int64, ok bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	a, b, found := strings.Cut(text, "-")
	first, ok1 := parseNumber(a)
	last, ok2 := parseNumber(b)
	if !found || !ok1 || !ok2 || last < first {
		return 0, 0, false
	}
	return first, last - first + 1, true
}

// uploadStatus answers GET of an upload.
func (h *Handler) uploadStatus(w *response, r *http.Request, q request) error {
	if !h.hosted(q) {
		return &failure{status: http.StatusNotFound, code: codeUploadUnknown, message: "upload unknown to registry"}
	}
	if err := h.mayPush(r, q); err != nil {
		return err
	}
	if offset, ok := h.turns.offset(r.Context(), turnKey{q.repo, q.id}); ok {
		return h.uploadAnswer(w, q, http.StatusNoContent, q.id, offset)
	}
	p := push{request: q, body: h.body(w, r)}
	err := h.withUpload(r, p, func(u Upload) error {
		return h.uploadAnswer(w, q, http.StatusNoContent, q.id, u.Offset())
	})
	if err != nil {
		return pushFailure(err)
	}
	return nil
}

// cancelUpload answers DELETE of an upload.
func (h *Handler) cancelUpload(w *response, r *http.Request, p push) error {
	return h.withUpload(r, p, func(u Upload) error {
		if err := u.Cancel(); err != nil {
			return err
		}
		return h.answer(w, http.StatusNoContent, "")
	})
}

func (h *Handler) uploadAnswer(w *response, q request, status int, id string, offset int64) error {
	uploadHeader(w.Header(), q, id, offset)
	return h.answer(w, status, "")
}

// uploadHeader says where an upload stands.
func uploadHeader(header http.Header, q request, id string, offset int64) {
	header.Set("Location", q.location(uploadsSuffix+"/"+id))
	header.Set("Range", rangeSoFar(offset))
	header.Set("Docker-Upload-UUID", id)
}
