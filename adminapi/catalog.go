package adminapi

import (
	"context"
	"errors"
	"io"
)

// A Catalog is what the door asks of the farm's catalog and of what is hosted, by way of the node behind it. A Farm
// that is one too has the endpoints for it. Its methods may be called at once and return soon after ctx is done.
type Catalog interface {
	// CatalogStatus is what the node knows of the catalog and its voters. It asks nobody.
	CatalogStatus(ctx context.Context) (CatalogStatus, error)
	// Backup writes the whole catalog, with all that was answered before the call. ErrNoQuorum.
	Backup(ctx context.Context, w io.Writer) error
	// Restore founds a new catalog on this node from a backup. ErrBadBackup; ErrQuorum without force.
	Restore(ctx context.Context, backup io.Reader, force bool) error
	// Recover founds a new catalog on this node from what lies beside the copies of hosted manifests on all members.
	// ErrQuorum without force.
	Recover(ctx context.Context, force bool) (Recovered, error)
	// Bootstrap founds a new catalog on this node from what its replica has. ErrQuorum.
	Bootstrap(ctx context.Context) error
	// Leave gives up this node's replica of the catalog.
	Leave(ctx context.Context) error
	// Collect removes, or with dryRun only counts, what no hosted manifest needs, on all members. ErrNoQuorum.
	Collect(ctx context.Context, dryRun bool) (Collected, error)
}

// The conditions of a Catalog that clients are told by a code of their own.
var (
	// ErrNoQuorum: too few voters are there to ask. It passes when they come back.
	ErrNoQuorum = errors.New("the catalog has no quorum")
	// ErrQuorum: the catalog works, so it is not replaced.
	ErrQuorum = errors.New("the catalog has a quorum, so it is not replaced")
	// ErrBadBackup: it is no backup, or not a whole one.
	ErrBadBackup = errors.New("not a whole backup of a catalog")
)

// CatalogStatus is the catalog as one node sees it.
type CatalogStatus struct {
	SchemaVersion int    `json:"schema_version"`
	Self          string `json:"self"`   // id of the node
	State         string `json:"state"`  // what the node is to the catalog: one of the catalog states
	ID            string `json:"id"`     // of the catalog; "" while the node knows none
	Leader        string `json:"leader"` // id of a node; "" while none is known
	Commit        uint64 `json:"commit"` // index of the last command that a majority of voters has
	Applied       uint64 `json:"applied"`
	Term          uint64 `json:"term"`
	// Tolerance is how many more voters may fail before there is no quorum.
	Tolerance int     `json:"tolerance"`
	Voters    []Voter `json:"voters"`
	// MissingSeeds are the seeds of the node's configuration at which no member is reached.
	MissingSeeds []string `json:"missing_seeds"`
	Trouble      string   `json:"trouble"` // what a person should look into; ""
	// Degraded says that an operator should look, and Advice what to do then. This package works them out; what a
	// Catalog puts here is ignored.
	Degraded bool   `json:"degraded"`
	Advice   string `json:"advice"`
}

// A Voter is one of the nodes that decide together.
type Voter struct {
	Node    string `json:"node"`
	Replica string `json:"replica"` // another one after its data was lost
	Zone    string `json:"zone"`
	Leader  bool   `json:"leader"`
	Alive   bool   `json:"alive"`
	Trails  int64  `json:"trails"` // by how many commands it trails the leader; -1: it did not say of late
}

// Recovered says what came of the copies of hosted manifests.
type Recovered struct {
	SchemaVersion int `json:"schema_version"`
	Manifests     int `json:"manifests"`
	Tags          int `json:"tags"`
	// Incomplete are manifests that were left out, since others that they list were not found: repository@digest.
	Incomplete []string `json:"incomplete"`
	Asked      int      `json:"asked"` // members that were asked for their copies
	// Silent are those of them that did not answer: what only they have is missing.
	Silent []string `json:"silent"`
}

// Collected says what a collection removed or, when it was a dry run, would remove.
type Collected struct {
	SchemaVersion int  `json:"schema_version"`
	DryRun        bool `json:"dry_run"`
	// Unused is how many links of blobs that no manifest needs were cut, and Links says which: the first 1000.
	Unused int          `json:"unused"`
	Links  []UnusedLink `json:"links"`
	// Nodes is what each member removed of what no repository links, ordered by id.
	Nodes []NodeCollected `json:"nodes"`
	// Blobs and Bytes are sums over Nodes: a blob that was kept in three copies counts three times. This package works
	// them out.
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// An UnusedLink is a blob of a repository that none of its manifests needs.
type UnusedLink struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Bytes      int64  `json:"bytes"`
}

// NodeCollected is one member's part of a collection.
type NodeCollected struct {
	ID    string `json:"id"`
	Blobs int    `json:"blobs"` // removed
	Bytes int64  `json:"bytes"`
	Young int    `json:"young"` // no repository links them, but they came a short while ago and stay for now
	Kept  int    `json:"kept"`
	Error string `json:"error"` // why the member did nothing, or not all; ""
}

// maxLinks bounds what is shown of a collection.
const maxLinks = 1000

// finished is s as it is shown.
func (s CatalogStatus) finished() CatalogStatus {
	s.SchemaVersion = SchemaVersion
	s.Voters = append([]Voter{}, s.Voters...)
	s.MissingSeeds = list(s.MissingSeeds)
	s.Degraded = !settled(s.State) || s.Trouble != "" || s.silentVoters() != nil
	s.Advice = s.advice()
	return s
}

func (r Recovered) finished() Recovered {
	r.SchemaVersion = SchemaVersion
	r.Incomplete, r.Silent = list(r.Incomplete), list(r.Silent)
	return r
}

func (c Collected) finished() Collected {
	c.SchemaVersion = SchemaVersion
	c.Links = append([]UnusedLink{}, c.Links[:min(len(c.Links), maxLinks)]...)
	c.Nodes = append([]NodeCollected{}, c.Nodes...)
	c.Blobs, c.Bytes = 0, 0
	for i := range c.Nodes {
		c.Blobs += c.Nodes[i].Blobs
		c.Bytes += c.Nodes[i].Bytes
		c.Nodes[i].Error = clip(c.Nodes[i].Error)
	}
	return c
}
