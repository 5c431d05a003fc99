package adminapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Trust is what the door asks of the farm's trust, by way of the node behind it. A Farm that is one too has the endpoints
// for it. Its methods may be called at once and return soon after ctx is done. All but TrustStatus, FarmCA and Tokens change the
// farm; their errors are ErrTrustMode, ErrUnknown and ErrNoQuorum, or say what is wrong.
type Trust interface {
	// TrustStatus is the node's own part. It asks nobody.
	TrustStatus(ctx context.Context) (TrustPart, error)
	// FarmCA is the certificates of the farm's CA, PEM. It asks nobody. ErrTrustMode, ErrUnknown.
	FarmCA(ctx context.Context) (string, error)
	// CreateToken makes a join token that so many nodes may use within ttl.
	CreateToken(ctx context.Context, ttl time.Duration, uses int) (NewToken, error)
	// Tokens lists the tokens that are good still.
	Tokens(ctx context.Context) ([]TokenInfo, error)
	// DropToken makes a token of no use.
	DropToken(ctx context.Context, id string) error
	// RevokeNode shuts a node out of the farm, and ReadmitNode takes that back.
	RevokeNode(ctx context.Context, id string) error
	ReadmitNode(ctx context.Context, id string) error
	// RotateKey gives the gossip of the running farm a new key.
	RotateKey(ctx context.Context) error
}

// The conditions of a Trust that clients are told by a code of their own.
var (
	// ErrTrustMode: the farm's trust mode has no such thing.
	ErrTrustMode = errors.New("not with this trust mode")
	// ErrUnknown: there is no token, or no node, of that id, or the node knows no CA yet.
	ErrUnknown = errors.New("unknown")
)

// TrustPart is a node's part in the farm's trust.
type TrustPart struct {
	Mode string `json:"mode"`
	CA   string `json:"ca"` // SHA-256 of the farm's CA certificate, in hex; "": there is none
	// CertificateEnd is when the node's certificate runs out, zero without one. It is renewed long before.
	CertificateEnd time.Time `json:"certificate_end,omitzero"`
	// Epoch counts the changes of the farm's trust that the node knows of, and EpochSince is since when it knows the last.
	Epoch      uint64    `json:"epoch"`
	EpochSince time.Time `json:"epoch_since,omitzero"`
	Revoked    []string  `json:"revoked"` // ids of nodes
}

// TrustStatus is a TrustPart as a document.
type TrustStatus struct {
	SchemaVersion int    `json:"schema_version"`
	Self          string `json:"self"` // id of the node
	TrustPart
}

// FarmCA is the farm's CA for those who are to trust it.
type FarmCA struct {
	SchemaVersion int    `json:"schema_version"`
	PEM           string `json:"pem"` // one or several certificates
}

// TokenInfo is a join token without its secret.
type TokenInfo struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"` // by how many nodes it may be used
	Used    int       `json:"used"` // by how many it was
}

// TokenList is the tokens of a farm.
type TokenList struct {
	SchemaVersion int         `json:"schema_version"`
	Tokens        []TokenInfo `json:"tokens"`
}

// A NewToken is a token with its secret, which is shown this once. It hides that in logs and errors.
type NewToken struct {
	SchemaVersion int    `json:"schema_version"`
	Token         string `json:"token"`
	TokenInfo
}

// String is the token without its secret.
func (t NewToken) String() string { return fmt.Sprintf("token %s (hidden)", t.ID) }

// GoString is the same, for %#v.
func (t NewToken) GoString() string { return t.String() }

// LogValue implements slog.LogValuer.
func (t NewToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// finished is p as it is shown.
func (p TrustPart) finished() TrustPart {
	p.Revoked = list(p.Revoked)
	slices.Sort(p.Revoked)
	return p
}

// Bounds of what a client may ask for.
const (
	defaultTokenTTL = time.Hour
	minTokenTTL     = time.Second
	maxTokenTTL     = 30 * 24 * time.Hour
	maxTokenUses    = 10_000
	maxIDBytes      = 64
)
