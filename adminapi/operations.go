package adminapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxBackupBytes bounds a backup that is sent here: it is read into memory.
	maxBackupBytes = 1 << 30
	// bodyStall is how long a client may pause while it sends a backup.
	bodyStall = 30 * time.Second
	// operationTime is how long what replaces a catalog may take. It goes on when the client leaves: a catalog that is
	// half founded serves nobody.
	operationTime = 10 * time.Minute
)

// catalogRoutes are the endpoints for catalog.
func (h *Handler) catalogRoutes(c Catalog) map[string]endpoint {
	return map[string]endpoint{
		"/v1/catalog": {answer: h.catalogStatus(c)},
		backupPath:    {secret: true, answer: h.backup(c)},
		restorePath: {post: true, body: true, answer: h.replace(c, func(ctx context.Context, r *http.Request, force bool) error {
			return c.Restore(ctx, r.Body, force)
		})},
		"/v1/catalog/bootstrap": {post: true, answer: h.replace(c, func(ctx context.Context, _ *http.Request, _ bool) error {
			return c.Bootstrap(ctx)
		})},
		"/v1/catalog/leave": {post: true, answer: h.replace(c, func(ctx context.Context, _ *http.Request, _ bool) error {
			return c.Leave(ctx)
		})},
		"/v1/catalog/recover": {post: true, answer: h.recover(c)},
		"/v1/gc":              {post: true, answer: h.collect(c)},
	}
}

const (
	backupPath  = "/v1/catalog/backup"
	restorePath = "/v1/catalog/restore"
)

func (h *Handler) catalogStatus(c Catalog) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AskTimeout)
		defer cancel()
		return h.sendCatalog(ctx, w, c)
	}
}

func (h *Handler) sendCatalog(ctx context.Context, w http.ResponseWriter, c Catalog) error {
	s, err := c.CatalogStatus(ctx)
	if err != nil {
		return fmt.Errorf("status of the catalog: %w", err)
	}
	extend(w, writeTimeout)
	writeJSON(w, http.StatusOK, s.finished())
	return nil
}

// replace answers with the catalog's status once do has replaced it.
func (h *Handler) replace(c Catalog, do func(ctx context.Context, r *http.Request, force bool) error) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		force, err := flag(r, "force")
		if err != nil {
			return err
		}
		return h.operate(r, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), operationTime)
			defer cancel()
			r.Body = newUpload(w, r.Body)
			if err := do(ctx, r, force); err != nil {
				return err
			}
			return h.sendCatalog(ctx, w, c)
		})
	}
}

func (h *Handler) recover(c Catalog) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		force, err := flag(r, "force")
		if err != nil {
			return err
		}
		return h.operate(r, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), operationTime)
			defer cancel()
			done, err := c.Recover(ctx, force)
			if err != nil {
				return err
			}
			extend(w, writeTimeout)
			writeJSON(w, http.StatusOK, done.finished())
			return nil
		})
	}
}

// collect ends when its client leaves: what was removed until then is no loss.
func (h *Handler) collect(c Catalog) route {
	return func(w http.ResponseWriter, r *http.Request) error {
		dryRun, err := flag(r, "dry_run")
		if err != nil {
			return err
		}
		return h.operate(r, func() error {
			done, err := c.Collect(r.Context(), dryRun)
			if err != nil {
				return err
			}
			done.DryRun = dryRun
			extend(w, writeTimeout)
			writeJSON(w, http.StatusOK, done.finished())
			return nil
		})
	}
}

// operate does one operation, unless another one is under way.
func (h *Handler) operate(r *http.Request, do func() error) error {
	select {
	case h.operations <- struct{}{}:
		defer func() { <-h.operations }()
	default:
		return &AnswerError{http.StatusServiceUnavailable, codeBusy, "another operation is under way"}
	}
	return h.acted(r, do())
}

// flag is a query parameter that is true or false.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, &AnswerError{http.StatusBadRequest, codeBadRequest, name + " must be true or false"}
	}
	return on, nil
}

// An upload is a body that a client sends, bounded in size and in pauses.
type upload struct {
	io.ReadCloser
	conn *http.ResponseController
}

func newUpload(w http.ResponseWriter, body io.ReadCloser) *upload {
	return &upload{http.MaxBytesReader(w, body, maxBackupBytes), http.NewResponseController(w)}
}

// Read gives up a client that pauses for too long. At the end there must be no deadline left: the server reads on to
// see whether the client stays.
func (u *upload) Read(p []byte) (int, error) {
	_ = u.conn.SetReadDeadline(time.Now().Add(bodyStall))
	n, err := u.ReadCloser.Read(p)
	_ = u.conn.SetReadDeadline(time.Time{})
	return n, err
}
