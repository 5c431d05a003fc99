package registryapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// A Hosting keeps what is pushed to the farm itself. Its methods are called by many goroutines at once, must return
// soon after ctx is done, and say with the errors of package oci and those below what went wrong. What it keeps is read
// by way of the Registry, but for the lists.
type Hosting interface {
	// Prefix is the upstream's name that all hosted repositories have, such as "farm.internal".
	Prefix() string
	Uploader
	Keeper
	Remover
	Lister
}

// An Uploader takes blobs.
type Uploader interface {
	// Start begins an upload into repo, to be hashed by algorithm (oci.SHA256 or oci.SHA512) as it comes.
	Start(ctx context.Context, repo oci.Repository, algorithm string) (Upload, error)
	// Upload opens an upload into repo that was begun before; oci.ErrNotFound when there is none (any more). The door
	// asks for one only when it has closed it.
	Upload(ctx context.Context, repo oci.Repository, id string) (Upload, error)
	// Mount links a blob of from in repo and tells whether it could; with the zero from, one of any repository that the
	// client may read.
	Mount(ctx context.Context, repo, from oci.Repository, d oci.Digest) (bool, error)
}

// An Upload is a blob on its way in, used by one goroutine. Offset alone may be called by others at any time.
type Upload interface {
	ID() string
	// Offset is how many bytes have arrived.
	Offset() int64
	// Append adds what r has and returns how many bytes it kept, also with an error. oci.ErrTooLarge, ErrNoSpace.
	Append(ctx context.Context, r io.Reader) (int64, error)
	// Commit makes the upload the blob d of its repository: afterwards it is kept as promised. Bytes that are not d are
	// an *oci.MismatchError. After an error the upload stands where it stood.
	Commit(ctx context.Context, d oci.Digest) error
	// Cancel removes the upload.
	Cancel() error
	// Close gives the upload back; after Commit or Cancel it does nothing.
	Close() error
}

// A Keeper takes manifests.
type Keeper interface {
	// PutManifest keeps a manifest in repo and sets its tags, all or nothing. Blobs and manifests that it lists and that
	// repo has not are a *MissingError; those with URLs of their own and the subject need not be there.
	PutManifest(ctx context.Context, repo oci.Repository, m Pushed) error
}

// A Remover takes things out of a repository; oci.ErrNotFound when they are not in it.
type Remover interface {
	DeleteTag(ctx context.Context, repo oci.Repository, tag string) error
	DeleteManifest(ctx context.Context, repo oci.Repository, d oci.Digest) error
	DeleteBlob(ctx context.Context, repo oci.Repository, d oci.Digest) error
}

// A Lister lists at most n after last, and tells whether there are more: repositories in the order of their bytes, tags
// in that of the specification, whatever their case and then by their bytes.
type Lister interface {
	Repositories(ctx context.Context, n int, last string) (paths []string, more bool, err error)
	Tags(ctx context.Context, repo oci.Repository, n int, last string) (tags []string, more bool, err error)
	// Referrers are the manifests in repo whose subject is d, of one artifactType unless that is "". None is no error.
	Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType string) ([]Referrer, error)
}

// A Pushed is a manifest as a client sent it, checked: Raw hashes to Digest and is Manifest, of MediaType.
type Pushed struct {
	Digest      oci.Digest
	MediaType   string
	Raw         []byte // the unchanged bytes
	Manifest    oci.Manifest
	Annotations map[string]string
	Tags        []string // to be set; may be none
}

// A Referrer is the descriptor of a manifest that points at another as its subject.
type Referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       oci.Digest        `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Referrer is the descriptor that m has among the referrers of its subject: an image that names no artifact type is of
// its config's.
func (m Pushed) Referrer() Referrer {
	r := Referrer{
		MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)),
		ArtifactType: m.Manifest.ArtifactType, Annotations: m.Annotations,
	}
	if r.ArtifactType == "" && m.Manifest.Config != nil {
		r.ArtifactType = m.Manifest.Config.MediaType
	}
	return r
}

// The conditions of a Hosting that the door tells its clients apart. Match them with errors.Is.
var (
	// ErrNoQuorum: what was asked for needs a catalog that can decide, and there is none now.
	ErrNoQuorum = errors.New("the farm's catalog has no quorum")
	// ErrNoSpace: the disk, or the room for hosted content, is full.
	ErrNoSpace = errors.New("no space left for hosted content")
	// ErrBusy: as much is going on as may.
	ErrBusy = errors.New("too much is going on")
)

// A MissingError says what a manifest lists that its repository has not.
type MissingError struct{ Digests []oci.Digest }

func (e *MissingError) Error() string {
	shown := e.Digests[:min(len(e.Digests), 10)]
	text := make([]string, len(shown))
	for i, d := range shown {
		text[i] = d.String()
	}
	return fmt.Sprintf("%d blobs or manifests are missing: %s", len(e.Digests), strings.Join(text, ", "))
}
