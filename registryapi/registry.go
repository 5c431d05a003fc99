package registryapi

import (
	"context"
	"io"

	"github.com/pullonce/pullonce/oci"
)

// A Registry has the content that the door serves. Its methods are called by many goroutines at once, must return soon
// after ctx is done, and say with the errors of package oci what went wrong. ErrNotFound means that what was asked for
// does not exist; what merely could not be asked is ErrUnavailable.
type Registry interface {
	// Manifest resolves ref in repo. accept lists the media types that the client takes, in its order and without
	// parameters; nil, or "*/*" among them, means any. It is advice for resolving a tag: what is found is served
	// whether listed or not. With headOnly, Raw may be nil.
	Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (Manifest, error)
	// Blob gives access to a blob that repo links. With ranged the client has asked for a part: nothing may be fetched
	// before Ready or WriteRange say which. ctx bounds this call and stays valid as long as the Blob is open.
	Blob(ctx context.Context, repo oci.Repository, d oci.Digest, ranged bool) (Blob, error)
	// StatBlob is the size of a blob that repo links. It never makes the farm fetch the blob.
	StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (size int64, err error)
	// Tags is a page of repo's tags in the upstream's order: at most n (0: the upstream's own choice), after last.
	Tags(ctx context.Context, repo oci.Repository, n int, last string) (Page, error)
	// Referrers is the index of the manifests in repo whose subject is d, of one artifactType unless that is "".
	Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType string) (Page, error)
}

// A Blob is one blob, opened for one response and used by one goroutine.
type Blob interface {
	// Size is the size of the whole blob.
	Size() int64
	// Ready blocks until the byte at off can be sent or never will be; its error decides the status of the answer.
	Ready(ctx context.Context, off int64) error
	// WriteRange writes the n bytes at off to w and no others. It returns nil only after all were written and the blob
	// is known to be right: with a nil error the response counts as complete. The last bytes must not be written before
	// that is known. w is an io.ReaderFrom that hands an *os.File, or an *io.LimitedReader of one, to the kernel.
	WriteRange(ctx context.Context, w io.Writer, off, n int64) error
	// Close ends the use of the blob.
	Close() error
}

// A Manifest is a manifest as it is served.
type Manifest struct {
	MediaType string
	Digest    oci.Digest
	Size      int64
	Raw       []byte // the unchanged bytes; may be nil when only the head was asked for
	Stale     bool   // the tag's last known digest, because the upstream did not answer
}

// A Page is a list of tags or referrers as the upstream gave it.
type Page struct {
	Raw      []byte
	Link     string // the upstream's Link header; "" on the last page
	Filtered bool   // referrers are already filtered by artifact type
	Stale    bool   // the last known answer, because the upstream did not give one
}
