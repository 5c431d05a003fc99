package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"

	"github.com/pullonce/pullonce/oci"
)

// A Body is a blob's bytes on their way. They are unchecked. Whoever has it closes it, which frees the slot among
// Config.MaxConcurrent.
//
// Read returns io.EOF after the last byte of the answer, never before; an error that is oci.ErrUnavailable when the
// bytes stop or the connection ends before; the context's own error when that ended. Nothing is resumed. Reads of at
// least Config.ReadBuffer bytes go from the socket into the caller's buffer.
type Body struct {
	io.ReadCloser
	Offset int64 // of the first byte in the blob
	Size   int64 // of the whole blob as the upstream says; -1 when it does not
	Ranged bool  // the answer is the range that was asked for; else it is the whole blob, from 0
	length int64 // of the answer; -1: not known
}

// Len is the number of bytes that the answer will have, -1 when the upstream does not say. It may be less than was
// asked for.
func (b *Body) Len() int64 { return b.length }

// Blob asks for n bytes of a blob from off on; n < 0 is all from there to the end, and with off 0 the whole blob is
// asked for without a range. An upstream that ignores ranges gives a Body with Ranged false and Offset 0: the caller
// decides whether to read it. Errors are oci.ErrNotFound, ErrNameUnknown, ErrUnauthorized, ErrDenied, ErrUnavailable,
// *oci.TooManyRequestsError, and ErrNoRange for a range that the upstream says the blob does not have. ctx ends the
// Body too.
func (c *Client) Blob(ctx context.Context, path string, d oci.Digest, off, n int64) (*Body, error) {
	what := "get blob " + d.String() + " of " + path
	if off < 0 || n == 0 || n > math.MaxInt64-off {
		return nil, fmt.Errorf("%s at %s: range of %d bytes at %d makes no sense", what, c.cfg.Name, n, off)
	}
	a, err := c.open(ctx, request{
		kind: kindBlob, method: http.MethodGet, repository: path, path: "blobs/" + d.String(),
		blob: d, byteRange: byteRange(off, n), what: what,
	})
	if err != nil {
		return nil, err
	}
	body, err := a.body(off, n)
	if err != nil {
		_ = a.Close()
		return nil, c.explain(ctx, what, err)
	}
	if body.Ranged || off > 0 || n >= 0 && body.Size > n {
		c.ranges.note(body.Ranged)
	}
	return body, nil
}

func byteRange(off, n int64) string {
	switch {
	case n >= 0:
		return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	case off > 0:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return ""
}

// body holds the answer's headers against the question.
func (a *answer) body(off, n int64) (*Body, error) {
	if encoding := a.header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("%w: answer is encoded although that was not accepted", oci.ErrUnavailable)
	}
	if a.status == http.StatusOK {
		return &Body{ReadCloser: a.reader, Size: a.length, length: a.length}, nil
	}
	r, ok := parseContentRange(a.header.Get("Content-Range"))
	switch {
	case byteRange(off, n) == "":
		return nil, fmt.Errorf("%w: a range came that was not asked for", oci.ErrUnavailable)
	case !ok:
		return nil, fmt.Errorf("%w: a range came without a Content-Range that can be read", oci.ErrUnavailable)
	case r.first != off || n >= 0 && r.length > n:
		return nil, fmt.Errorf("%w: %d bytes at %d came, asked were %d at %d", oci.ErrUnavailable, r.length, r.first, n, off)
	case a.length >= 0 && a.length != r.length:
		return nil, fmt.Errorf("%w: Content-Length is %d and Content-Range %d bytes", oci.ErrUnavailable, a.length, r.length)
	}
	a.want = r.length
	return &Body{ReadCloser: a.reader, Offset: off, Size: r.total, Ranged: true, length: r.length}, nil
}

// StatBlob is the size of a blob, by HEAD; where the upstream has no HEAD for it, or gives no size, by asking for its
// first byte. Errors are those of Blob.
func (c *Client) StatBlob(ctx context.Context, path string, d oci.Digest) (int64, error) {
	a, err := c.open(ctx, request{
		kind: kindBlobHead, method: http.MethodHead, repository: path, path: "blobs/" + d.String(),
		what: "stat blob " + d.String() + " of " + path,
	})
	switch {
	case err == nil:
		_ = a.Close()
		if a.status == http.StatusOK && a.length >= 0 {
			return a.length, nil
		}
	case !errors.Is(err, oci.ErrUnsupported) && !errors.Is(err, errStorage): // a signed URL may be for GET alone
		return 0, err
	}
	body, err := c.Blob(ctx, path, d, 0, 1)
	if err != nil {
		return 0, err
	}
	_ = body.Close()
	if body.Size < 0 {
		return 0, fmt.Errorf("stat blob %s of %s at %s: %w: no size is given", d, path, c.cfg.Name, oci.ErrUnavailable)
	}
	return body.Size, nil
}
