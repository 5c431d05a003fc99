package registryapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
)

// The codes of the OCI distribution specification, and of Docker's where that has none.
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeDenied          = "DENIED"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeManifestInvalid = "MANIFEST_INVALID"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameInvalid     = "NAME_INVALID"
	codeNameUnknown     = "NAME_UNKNOWN"
	codePageInvalid     = "PAGINATION_NUMBER_INVALID"
	codeRangeInvalid    = "RANGE_INVALID"
	codeSizeInvalid     = "SIZE_INVALID"
	codeTagInvalid      = "TAG_INVALID"
	codeTooMany         = "TOOMANYREQUESTS"
	codeUnauthorized    = "UNAUTHORIZED"
	codeUnavailable     = "UNAVAILABLE"
	codeUnknown         = "UNKNOWN"
	codeUnsupported     = "UNSUPPORTED"
)

// A failure is an answer that is an error. It is also the error by which the door itself refuses a request.
type failure struct {
	status  int
	code    string
	message string
	detail  string // of what the client sent; never what went wrong inside
	retry   time.Duration
	// challenge asks for credentials in WWW-Authenticate; "" for none.
	challenge string
	// unknown is the upstream that the client has named and that there is not; "" in all other failures.
	unknown string
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %s %s", f.code, f.message, f.detail) }

// errNoFirstByte is why the door gives up waiting for the Registry.
var errNoFirstByte = fmt.Errorf("no first byte in time: %w", oci.ErrUnavailable)

// failureOf picks status and code: the only place that does.
func failureOf(err error, k kind) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if limit, ok := errors.AsType[*oci.TooManyRequestsError](err); ok {
		return &failure{
			status: http.StatusTooManyRequests, code: codeTooMany, message: "the upstream's limit is reached",
			retry: max(limit.RetryAfter, time.Second),
		}
	}
	if _, ok := errors.AsType[*oci.MismatchError](err); ok {
		return &failure{status: http.StatusBadGateway, code: codeUnknown, message: "the upstream's bytes do not match the digest"}
	}
	if f := accessFailure(err); f != nil {
		return f
	}
	for _, row := range failures {
		if errors.Is(err, row.is) {
			return row.answer
		}
	}
	if errors.Is(err, oci.ErrNotFound) {
		return notFound(k)
	}
	return &failure{status: http.StatusInternalServerError, code: codeUnknown, message: "internal error"}
}

// accessFailure is the answer to who may not, nil for all other errors.
func accessFailure(err error) *failure {
	if unauthorized, ok := errors.AsType[*access.UnauthorizedError](err); ok {
		return &failure{
			status: http.StatusUnauthorized, code: codeUnauthorized, challenge: unauthorized.Challenge,
			message: cmp.Or(unauthorized.Message, "authentication required"),
		}
	}
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		return &failure{status: http.StatusForbidden, code: codeDenied, message: denied.Message}
	}
	if many, ok := errors.AsType[*access.TooManyLoginsError](err); ok {
		return &failure{
			status: http.StatusTooManyRequests, code: codeTooMany, message: "too many logins at once, or failed ones",
			retry: max(many.RetryAfter, time.Second),
		}
	}
	return nil
}

var failures = []struct {
	is     error
	answer *failure
}{
	{oci.ErrNameInvalid, &failure{status: http.StatusBadRequest, code: codeNameInvalid, message: "invalid repository name"}},
	{oci.ErrDigestInvalid, &failure{status: http.StatusBadRequest, code: codeDigestInvalid, message: "invalid digest"}},
	{oci.ErrTagInvalid, &failure{status: http.StatusBadRequest, code: codeTagInvalid, message: "invalid tag"}},
	{oci.ErrNameUnknown, &failure{status: http.StatusNotFound, code: codeNameUnknown, message: "repository name not known to the registry"}},
	{oci.ErrUnauthorized, &failure{status: http.StatusUnauthorized, code: codeUnauthorized, message: "the upstream asks for authentication, pull from it directly"}},
	{oci.ErrDenied, &failure{status: http.StatusForbidden, code: codeDenied, message: "access to the resource is denied"}},
	{oci.ErrTooLarge, &failure{status: http.StatusRequestEntityTooLarge, code: codeSizeInvalid, message: "larger than the registry's limit"}},
	{oci.ErrManifestInvalid, &failure{status: http.StatusBadGateway, code: codeManifestInvalid, message: "the upstream's manifest is invalid"}},
	// 404 and not 5xx, so that the client goes to the upstream at once and does not try again here.
	{oci.ErrUnsupported, &failure{status: http.StatusNotFound, code: codeUnsupported, message: "not served by this mirror"}},
	{ErrNoQuorum, noQuorum},
	{oci.ErrUnavailable, unavailable},
	{context.DeadlineExceeded, unavailable},
	{context.Canceled, unavailable},
}

// unavailable has no Retry-After on purpose: some clients would wait for it instead of going to the upstream.
var unavailable = &failure{status: http.StatusServiceUnavailable, code: codeUnavailable, message: "the upstream cannot be reached now"}

// at is f with the name of the upstream that it is about, if that is known.
func (f *failure) at(upstream string) *failure {
	if f != unavailable || upstream == "" {
		return f
	}
	named := *f
	named.message = upstream + " cannot be reached now"
	return &named
}

func notFound(k kind) *failure {
	switch k {
	case kindUpload:
		return &failure{status: http.StatusNotFound, code: codeUploadUnknown, message: "upload unknown to registry"}
	case kindBlob:
		return &failure{status: http.StatusNotFound, code: codeBlobUnknown, message: "blob unknown to registry"}
	case kindTags:
		return &failure{status: http.StatusNotFound, code: codeNameUnknown, message: "repository name not known to registry"}
	default:
		return &failure{status: http.StatusNotFound, code: codeManifestUnknown, message: "manifest unknown to registry"}
	}
}

// badRequest refuses what the client sent.
func badRequest(code, message, detail string) error {
	return &failure{status: http.StatusBadRequest, code: code, message: message, detail: detail}
}

// maxShownName bounds what is shown of an upstream's name.
const maxShownName = 100

// unknownUpstream refuses a name of an upstream that is not configured. The name is what a client sent: it is shown as
// far as it looks like one.
func unknownUpstream(name string) error {
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_:[]", r)
	}
	if name == "" || len(name) > maxShownName || strings.ContainsFunc(name, strange) {
		name = "the registry of that name"
	}
	return &failure{
		status: http.StatusNotFound, code: codeNameUnknown, unknown: name,
		message: name + " is not among this node's upstreams",
	}
}

type errorBody struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail"`
}

// sittersOut are the clients that wait a Retry-After out, several times, before they go to the upstream: those built on
// containers/image. What they are told to wait is kept short, so that their pulls end in time.
var sittersOut = []string{"containers/", "podman/", "skopeo/", "buildah/", "cri-o/"}

// forClient is f as it is right for a client with that User-Agent.
func (f *failure) forClient(userAgent string) *failure {
	if f.retry <= time.Second {
		return f
	}
	name := strings.ToLower(userAgent)
	for _, sitter := range sittersOut {
		if strings.HasPrefix(name, sitter) {
			short := *f
			short.retry = time.Second
			return &short
		}
	}
	return f
}

// write answers with f. It must come before anything else was written.
func (f *failure) write(w http.ResponseWriter) {
	entry := errorEntry{Code: f.code, Message: f.message}
	if f.detail != "" {
		entry.Detail = f.detail
	}
	body, err := json.Marshal(errorBody{Errors: []errorEntry{entry}})
	if err != nil {
		panic(err) // strings always marshal
	}
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	if f.retry > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retry.Seconds()))))
	}
	w.WriteHeader(f.status)
	_, _ = w.Write(body)
}
