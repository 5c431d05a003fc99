package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// ErrNoRange says that the upstream does not serve the range that was asked for. It is an oci.ErrUnavailable too.
var ErrNoRange = fmt.Errorf("upstream does not serve the range: %w", oci.ErrUnavailable)

var (
	errNoFirstByte = errors.New("no answer within the first-byte timeout")
	errStalled     = errors.New("stalled")
	errClosed      = errors.New("body is closed")
	errBreaker     = errors.New("circuit breaker is open")
	// errStorage: the host that a registry redirected to refuses what the registry allowed.
	errStorage = errors.New("redirect target refuses")
)

// A transient error is one that another try soon may not meet.
type transient struct {
	error
	wait time.Duration // as the upstream asked for; 0: any
}

func (t *transient) Unwrap() error { return t.error }

const (
	// maxRetryWait is the longest Retry-After that is waited for with a client waiting.
	maxRetryWait = time.Second
	// maxErrorBytes is how much of an error's body is looked at.
	maxErrorBytes = 8 << 10
)

// statusError is what a status means for a request, nil for 200 and 206. It reads at most maxErrorBytes of the body.
func statusError(resp *http.Response) error {
	switch status := resp.StatusCode; {
	case status == http.StatusOK || status == http.StatusPartialContent:
		return nil
	case status == http.StatusUnauthorized:
		return oci.ErrUnauthorized
	case status == http.StatusForbidden:
		return oci.ErrDenied
	case status == http.StatusNotFound || status == http.StatusGone:
		return notFound(resp)
	case status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented:
		return fmt.Errorf("%w: status %d", oci.ErrUnsupported, status)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrNoRange
	case status == http.StatusTooManyRequests:
		return tooMany(resp)
	case status >= 500 || status == http.StatusRequestTimeout:
		return serverError(resp)
	default:
		return fmt.Errorf("%w: status %d", oci.ErrUnavailable, status)
	}
}

func tooMany(resp *http.Response) error {
	wait, ok := parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	err := &oci.TooManyRequestsError{RetryAfter: wait}
	if ok && wait <= maxRetryWait {
		return &transient{err, wait}
	}
	return err
}

func serverError(resp *http.Response) error {
	err := fmt.Errorf("%w: status %d", oci.ErrUnavailable, resp.StatusCode)
	wait, _ := parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if wait > maxRetryWait {
		return err
	}
	return &transient{err, wait}
}

// notFound tells an unknown repository from an unknown manifest or blob by the code in the body. The upstream's own
// words go into no error: a hostile one could repeat what it was sent.
func notFound(resp *http.Response) error {
	var body struct {
		Errors []struct{ Code string }
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err == nil && json.Unmarshal(raw, &body) == nil {
		for _, e := range body.Errors {
			if e.Code == "NAME_UNKNOWN" {
				return oci.ErrNameUnknown
			}
		}
	}
	return oci.ErrNotFound
}

// discard reads what little is left of an answer that nobody needs, so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBytes)
	_ = resp.Body.Close()
}
