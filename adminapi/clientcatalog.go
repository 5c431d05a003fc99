package adminapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// backupStall is how long a node may send nothing of a backup.
const backupStall = time.Minute

// Catalog asks for the catalog as the node sees it.
func (c *Client) Catalog(ctx context.Context, timeout time.Duration) (CatalogStatus, error) {
	var s CatalogStatus
	err := c.get(ctx, "/v1/catalog", timeout, &s, &s.SchemaVersion)
	return s, err
}

// Backup writes the whole catalog to w and returns its size. With an error, what was written is no backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) (int64, error) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(backupStall, cancel)
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, c.base+backupPath, nil)
	if err != nil {
		return 0, err
	}
	c.sign(req)
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, c.unreachable(err, backupStall)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
		return 0, c.refusal(res.StatusCode, body)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), watched{res.Body, stalled})
	switch {
	case ctx.Err() != nil:
		return n, ctx.Err()
	case limited.Err() != nil:
		return n, fmt.Errorf("back up from %s: nothing came for %v after %d bytes", c.address, backupStall, n)
	case err != nil:
		return n, fmt.Errorf("back up from %s: cut after %d bytes: %w", c.address, n, err)
	case res.Trailer.Get(digestTrailer) != digestOf(sum):
		return n, fmt.Errorf("back up from %s: what came is not what was sent, or not all of it (%d bytes)", c.address, n)
	}
	return n, nil
}

// watched puts off a timer whenever bytes come.
type watched struct {
	io.Reader
	timer *time.Timer
}

func (r watched) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.timer.Reset(backupStall)
	return n, err
}

// Restore founds a new catalog on the node from a backup of size bytes, -1 for not known, and returns its status.
func (c *Client) Restore(ctx context.Context, backup io.Reader, size int64, force bool) (CatalogStatus, error) {
	var s CatalogStatus
	err := c.post(ctx, restorePath+"?force="+strconv.FormatBool(force), backup, size, &s, &s.SchemaVersion)
	return s, err
}

// Recover founds a new catalog on the node from the copies of hosted manifests.
func (c *Client) Recover(ctx context.Context, force bool) (Recovered, error) {
	var r Recovered
	err := c.post(ctx, "/v1/catalog/recover?force="+strconv.FormatBool(force), nil, 0, &r, &r.SchemaVersion)
	return r, err
}

// Bootstrap founds a new catalog on the node from what its replica has, and returns its status.
func (c *Client) Bootstrap(ctx context.Context) (CatalogStatus, error) {
	var s CatalogStatus
	err := c.post(ctx, "/v1/catalog/bootstrap", nil, 0, &s, &s.SchemaVersion)
	return s, err
}

// Leave gives up the node's replica of the catalog, and returns what the node is to the catalog then.
func (c *Client) Leave(ctx context.Context) (CatalogStatus, error) {
	var s CatalogStatus
	err := c.post(ctx, "/v1/catalog/leave", nil, 0, &s, &s.SchemaVersion)
	return s, err
}

// Collect removes what no hosted manifest needs, or only tells what that is.
func (c *Client) Collect(ctx context.Context, dryRun bool) (Collected, error) {
	var d Collected
	err := c.post(ctx, "/v1/gc?dry_run="+strconv.FormatBool(dryRun), nil, 0, &d, &d.SchemaVersion)
	return d, err
}

// post asks for a change and waits for as long as that takes.
func (c *Client) post(ctx context.Context, path string, body io.Reader, size int64, v any, schema *int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, http.NoBody)
	if err != nil {
		return err
	}
	c.sign(req)
	sent := &source{reader: body}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(sent), size
		req.Header.Set("Expect", "100-continue") // what is refused need not be sent
	}
	status, answer, err := c.fetch(req)
	if err == nil {
		return c.read(status, answer, v, schema)
	}
	if cause := sent.err.Load(); cause != nil {
		return fmt.Errorf("read what is to be sent: %w", *cause)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	gone := c.unreachable(err, 0)
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
		gone.Err = fmt.Errorf("%w: what was asked may have been done", gone.Err)
	}
	return gone
}

// A source remembers why it could not be read: the error is not one of the connection.
type source struct {
	reader io.Reader
	err    atomic.Pointer[error]
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(&err)
	}
	return n, err
}
