package transfer

import (
	"context"
	"io"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

// A Directory knows the farm's members.
type Directory interface {
	// View is the ring as this node sees it now.
	View() *ring.View
	// Lookup finds a member of the ring or of the farm by its id.
	Lookup(id string) (Node, bool)
	// Others are the live members but this one.
	Others() []Node
	// Snapshot is the membership that the view rests on, and Merge takes another node's.
	Snapshot() []byte
	Merge(snapshot []byte)
	// Observe hears the hash of the ring that another node goes by.
	Observe(id string, ringHash uint64)
}

// An Upstream reads blobs from the registries outside the farm.
type Upstream interface {
	// Blob opens n bytes of a blob from off, or all from off when n is negative.
	Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (Body, error)
	// StatBlob is the size of a blob in bytes as that repository confirms it.
	StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error)
}

// A Body is an upstream's answer to Upstream.Blob.
type Body struct {
	io.ReadCloser
	End  int64 // after the last byte that is read: less than Size when a part was asked for and given; negative: Size
	Size int64 // of the whole blob; negative when the upstream did not say
	Skip int64 // bytes that come first and are thrown away while it is read, since the upstream gives no ranges
}

// Documents answers peers that ask this node for a small document because it owns it, or holds it.
type Documents interface {
	Document(ctx context.Context, q Question) (Answer, error)
}

// A Question asks a document's owner for it.
type Question struct {
	Kind       Kind
	Repository oci.Repository
	Reference  string   // a tag or a digest, as Kind says
	N          int      // page size of a tags list; 0 is all
	Last       string   // of a tags list: the tag to start after; of referrers: the artifact type
	Accept     []string // media types
	Held       bool     // only what the node has already is wanted: it asks nobody for it
	Right      string   // in whose name the upstream is asked; a secret. "" with Ask: what Rights says
	Blob       bool     // of Standing and Check: Reference is a blob's digest
}

// A Kind says what a Question asks for.
type Kind int

// The kinds of documents.
const (
	Resolve   Kind = iota + 1 // the descriptor that a tag names
	Manifest                  // the bytes of a manifest by its digest
	Confirm                   // whether the repository has a blob, and its size
	Tags                      // a page of a tags list
	Referrers                 // the index of a manifest's referrers
	Standing                  // whether everybody may read the repository
	Check                     // whether who has Right may read the repository
)

// An Answer is a document.
type Answer struct {
	Digest    oci.Digest
	MediaType string
	Size      int64
	Body      []byte
	Link      string        // of a tags list: the Link header to the next page
	Stale     bool          // the upstream could not be asked; this is the last that is known
	Fresh     time.Duration // how long it may be taken for true without asking again
	Age       time.Duration // how long ago the upstream gave it
	Filtered  bool          // of referrers: the artifact type was filtered already
	Linked    bool          // the repository itself has confirmed the digest
	Public    bool          // the upstream gives the repository to everybody
	Private   bool          // the upstream wants to know who asks; neither: not known
	Hidden    bool          // Private, and it says to all others that there is no such thing
	FarmReads bool          // Private, and the farm's own credentials let it read the repository
	// StandingAge is how long ago the upstream has shown Public, Private, Hidden and FarmReads.
	StandingAge time.Duration
}
