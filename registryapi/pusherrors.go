package registryapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// The codes that pushes alone have.
const (
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
)

const (
	retryBusy   = time.Second     // an upload that another request is with
	retryQuorum = 5 * time.Second // longer than an election takes
)

// errNoCommit is why the door gives up waiting for the Hosting.
var errNoCommit = fmt.Errorf("not kept in time: %w", oci.ErrUnavailable)

// pushFailures are the errors that mean something else of a push than of a pull: here the client is to blame, or this
// farm, never an upstream.
var pushFailures = []struct {
	is     error
	answer *failure
}{
	{errTaken, &failure{status: http.StatusConflict, code: codeUploadInvalid, message: "another request goes on with this upload"}},
	{errTooSlow, &failure{status: http.StatusRequestTimeout, code: codeUploadInvalid, message: "sent too slowly"}},
	{ErrNoQuorum, noQuorum},
	{ErrNoSpace, &failure{status: http.StatusInsufficientStorage, code: codeUnavailable, message: "no space left for hosted content on this node, or on those that keep copies: see hosted.max_size and hosted.min_free"}},
	{ErrBusy, &failure{status: http.StatusServiceUnavailable, code: codeUnavailable, message: "too many uploads are going on", retry: retryBusy}},
	{oci.ErrUnsupported, &failure{status: http.StatusBadRequest, code: codeManifestInvalid, message: "manifests of this media type are not kept"}},
	{oci.ErrUnavailable, &failure{status: http.StatusServiceUnavailable, code: codeUnavailable, message: "the farm cannot keep it now", retry: retryQuorum}},
}

// noQuorum is also the answer to reads that need the catalog.
var noQuorum = &failure{
	status: http.StatusServiceUnavailable, code: codeUnavailable,
	message: "the farm's catalog has no quorum now, hosted names cannot be changed or resolved", retry: retryQuorum,
}

// pushFailure is the answer to a push that failed with err, or err where it means what it means of a pull.
func pushFailure(err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if bad, ok := errors.AsType[*oci.MismatchError](err); ok {
		return badRequest(codeDigestInvalid, "what was sent does not match the digest", bad.Digest.String())
	}
	if missing, ok := errors.AsType[*MissingError](err); ok {
		return &failure{
			status: http.StatusNotFound, code: codeManifestBlobUnknown,
			message: "the repository lacks what the manifest lists", detail: missing.Error(),
		}
	}
	if errors.Is(err, oci.ErrManifestInvalid) {
		return badRequest(codeManifestInvalid, "invalid manifest", err.Error())
	}
	for _, row := range pushFailures {
		if errors.Is(err, row.is) {
			return row.answer
		}
	}
	return err
}
