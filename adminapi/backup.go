package adminapi

import (
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"log/slog"
	"net/http"
)

// digestTrailer follows a backup (RFC 9530): without it, or with another sum, the backup was cut or changed.
const digestTrailer = "Content-Digest"

func digestOf(sum hash.Hash) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":"
}

// backup streams the catalog, with all hosted names and the sealed secrets of the farm's trust. A connection that ends before the trailer tells that it is not whole.
func (h *Handler) backup(c Catalog) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case h.backups <- struct{}{}:
			defer func() { <-h.backups }()
		default:
			return &AnswerError{http.StatusServiceUnavailable, codeBusy, "too many backups at once"}
		}
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "application/octet-stream")
			return nil
		}
		out := &backupWriter{w: w, sum: sha256.New()}
		err := c.Backup(r.Context(), out)
		if err != nil && out.n == 0 {
			return err
		}
		if err != nil {
			h.log.LogAttrs(r.Context(), slog.LevelError, "backup cut", slog.Any("error", err))
			_ = http.NewResponseController(w).Flush() // the head at least: that there is a node is known then
			panic(http.ErrAbortHandler)               // the one way to end an answer that has begun so that its reader notices
		}
		w.Header().Set(digestTrailer, digestOf(out.sum))
		return nil
	}
}

// A backupWriter sends what it is given. The head goes with the first byte, so that an error before it can be told.
type backupWriter struct {
	w   http.ResponseWriter
	sum hash.Hash
	n   int64
}

func (b *backupWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.n == 0 {
		b.w.Header().Set("Content-Type", "application/octet-stream")
		b.w.Header().Set("Trailer", digestTrailer)
	}
	extend(b.w, writeTimeout)
	n, err := b.w.Write(p)
	_, _ = b.sum.Write(p[:n]) // it never fails
	b.n += int64(n)
	return n, err
}
