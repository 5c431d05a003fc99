package catalog

import (
	"time"

	"github.com/pullonce/pullonce/oci"
)

// The kinds of command. A repository is named by its path, without the prefix that hosted names have.
type (
	// PutManifest puts a manifest into a repository, and tags on it. All that it lists has to be there already, else
	// the error is a *MissingError.
	PutManifest struct {
		Repository  string
		Descriptor  oci.Descriptor    // its ArtifactType is the referrer's; URLs are left out
		Annotations map[string]string // kept of a manifest with a subject, for the list of referrers
		Subject     oci.Digest        // zero for none; need not be there
		Blobs       []oci.Digest      // config and layers, or other manifests, without those that lie elsewhere by URL
		Tags        []string
	}
	// PutTag names a manifest of the repository; oci.ErrNotFound when it is not there.
	PutTag struct {
		Repository, Tag string
		Digest          oci.Digest
	}
	// DeleteTag takes a tag away; oci.ErrNotFound when it is not there.
	DeleteTag struct{ Repository, Tag string }
	// DeleteManifest takes a manifest away, with its tags and its place among referrers; oci.ErrNotFound when it is not
	// there. What it lists stays linked.
	DeleteManifest struct {
		Repository string
		Digest     oci.Digest
	}
	// LinkBlob makes a blob seen in a repository. A link that is there is made anew, with a new index.
	LinkBlob struct {
		Repository string
		Digest     oci.Digest
		Size       int64
	}
	// UnlinkBlob takes a link away; oci.ErrNotFound when it is not there.
	UnlinkBlob struct {
		Repository string
		Digest     oci.Digest
		IfUnused   bool   // ErrInUse when a manifest of the repository lists the blob
		IfIndex    uint64 // ErrChanged when the link was made anew since; 0 asks for nothing
	}
	// PutPin pins a name to a digest, in place of an older pin of it.
	PutPin struct {
		Name   string
		Digest oci.Digest
		Until  time.Time // zero: until it is lifted
	}
	// Unpin lifts a pin; oci.ErrNotFound when there is none.
	Unpin struct{ Name string }
	// TakeLease takes or prolongs the lease of a blob. Result.Holder is who has it afterwards.
	TakeLease struct {
		Digest oci.Digest
		Node   string
		TTL    time.Duration
	}
	// ReleaseLease gives a lease back; nothing happens when the node does not hold it.
	ReleaseLease struct {
		Digest oci.Digest
		Node   string
	}
	// SetSetting sets what the farm agrees on under key; an empty value takes it away.
	SetSetting struct {
		Key   string
		Value []byte
	}
	// SwapSetting does what SetSetting does, unless the setting was changed meanwhile: ErrChanged. Result.Index is the
	// setting's index from then on.
	SwapSetting struct {
		Key     string
		Value   []byte
		IfIndex uint64 // of its last change, as SettingAt says it; 0: there must be none
	}
	// Forget drops the tombstones that are older.
	Forget struct{ Before time.Time }
)
