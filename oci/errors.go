package oci

import (
	"errors"
	"fmt"
	"time"
)

// The conditions that callers tell apart. Match them with errors.Is.
var (
	// ErrNotFound: the blob, manifest or tag is known not to exist where it was asked for. It is never said of
	// something that merely could not be asked for; that is ErrUnavailable.
	ErrNotFound = errors.New("not found")
	// ErrNameUnknown: the repository, or the upstream that it belongs to, is not known.
	ErrNameUnknown = errors.New("repository name not known")
	// ErrNameInvalid: the text is no repository name of the OCI distribution specification.
	ErrNameInvalid = errors.New("invalid repository name")
	// ErrDigestInvalid: the text is no digest, or names an algorithm that is not supported.
	ErrDigestInvalid = errors.New("invalid digest")
	// ErrTagInvalid: the text is no tag of the OCI distribution specification.
	ErrTagInvalid = errors.New("invalid tag")
	// ErrManifestInvalid: the bytes are no manifest of the media type they came with.
	ErrManifestInvalid = errors.New("invalid manifest")
	// ErrUnauthorized: the upstream wants credentials that the caller did not bring.
	ErrUnauthorized = errors.New("authentication required")
	// ErrDenied: the caller is known and may not.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable: whoever has the answer could not be asked now: an upstream that is down, hangs or answers 5xx.
	ErrUnavailable = errors.New("upstream unavailable")
	// ErrUnsupported: a request that the cache cannot serve right, so that the client should go elsewhere.
	ErrUnsupported = errors.New("unsupported")
	// ErrTooLarge: more bytes than the limit for what was asked.
	ErrTooLarge = errors.New("too large")
)

// A TooManyRequestsError says that the upstream's limit is reached; it carries the wait that the upstream asked for.
type TooManyRequestsError struct {
	RetryAfter time.Duration // 0 when the upstream named none
}

func (e *TooManyRequestsError) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("too many requests, retry after %v", e.RetryAfter)
	}
	return "too many requests"
}

// A MismatchError says that bytes do not hash to the digest that names them.
type MismatchError struct {
	Digest Digest
	Piece  int // the piece that did not match; -1 when the whole was checked at once
}

func (e *MismatchError) Error() string {
	if e.Piece < 0 {
		return fmt.Sprintf("bytes do not match %s", e.Digest)
	}
	return fmt.Sprintf("piece %d does not match %s", e.Piece, e.Digest)
}
