package registryapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// blob answers GET and HEAD of a blob.
func (h *Handler) blob(w *response, r *http.Request, q request) error {
	etag := etagOf(q.d)
	cached := etagListed(r.Header, etag)
	if r.Method == http.MethodHead || cached {
		return h.statBlob(w, r, q, etag, cached)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	// One timer after the other: until the first byte, and then, set by the stream, between any two.
	source := time.AfterFunc(h.cfg.FirstByteTimeout, func() { cancel(errNoFirstByte) })
	defer source.Stop()

	wanted := wantedSpan(r.Header, etag)
	b, err := h.registry.Blob(ctx, q.repo, q.d, wanted != nil)
	if err != nil {
		return because(ctx, err)
	}
	defer func() { _ = b.Close() }()
	s := &stream{
		w: w, control: http.NewResponseController(w.ResponseWriter), status: http.StatusOK, left: b.Size(), source: source,
		stallTimeout: h.cfg.StallTimeout, clientTimeout: h.cfg.ClientTimeout,
	}
	off := int64(0)
	if wanted != nil {
		var ok bool
		if off, s.left, ok = wanted.within(b.Size()); !ok {
			w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(b.Size(), 10))
			return &failure{
				status: http.StatusRequestedRangeNotSatisfiable, code: codeRangeInvalid,
				message: "range not satisfiable",
			}
		}
		s.status = http.StatusPartialContent
	}
	n := s.left
	s.header = func() {
		blobHeader(w.Header(), q, etag, n)
		if s.status == http.StatusPartialContent {
			w.Header().Set("Content-Range", contentRange(off, n, b.Size()))
		}
	}
	return h.send(ctx, s, b, off, n)
}

// send has b write its bytes. An error before the first of them is returned, later ones close the connection.
func (h *Handler) send(ctx context.Context, s *stream, b Blob, off, n int64) error {
	if n > 0 {
		if err := b.Ready(ctx, off); err != nil {
			return because(ctx, err)
		}
	}
	err := b.WriteRange(ctx, s, off, n)
	if err == nil && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = s.begin(0) // of an empty blob
	}
	if err == nil {
		return nil
	}
	err = because(ctx, err)
	if !s.begun {
		return err
	}
	s.w.gone = s.lost || errors.Is(err, context.Canceled)
	s.w.aborted = !s.w.gone
	level := slog.LevelWarn
	if s.w.gone { // as clients do
		level = slog.LevelDebug
	}
	h.log.LogAttrs(ctx, level, "blob cut off", slog.Int64("offset", off), slog.Int64("missing", s.left),
		slog.Any("error", err))
	panic(http.ErrAbortHandler)
}

// because is why ctx has ended, if it has: the reason for whatever error came of it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// statBlob answers what needs no byte of the blob, so that none is fetched.
func (h *Handler) statBlob(w *response, r *http.Request, q request, etag string, cached bool) error {
	ctx, cancel := h.limited(r)
	defer cancel()
	size, err := h.registry.StatBlob(ctx, q.repo, q.d)
	if err != nil {
		return because(ctx, err)
	}
	if cached {
		immutable(w.Header(), q.d, etag)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	blobHeader(w.Header(), q, etag, size)
	w.WriteHeader(http.StatusOK)
	return nil
}

func blobHeader(header http.Header, q request, etag string, n int64) {
	immutable(header, q.d, etag)
	header.Set("Accept-Ranges", "bytes")
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Length", strconv.FormatInt(n, 10))
}

func contentRange(off, n, size int64) string {
	return "bytes " + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10) + "/" + strconv.FormatInt(size, 10)
}
