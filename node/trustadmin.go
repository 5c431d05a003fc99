package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/trust"
)

// trustPart is this node's part in the farm's trust, nil where there is none.
func (n *Node) trustPart() *adminapi.TrustPart {
	if !n.trusting() {
		return nil
	}
	s := n.trust.State()
	part := &adminapi.TrustPart{
		Mode: string(n.trust.Mode()), Epoch: s.Epoch, Revoked: slices.Collect(maps.Keys(s.Revoked)),
	}
	if at := n.epochSince.Load(); at > 0 {
		part.EpochSince = time.Unix(0, at)
	}
	if len(s.CAs) > 0 {
		sum := sha256.Sum256(s.CAs[0])
		part.CA = hex.EncodeToString(sum[:])
	}
	if c := n.trust.Certificate(); c != nil {
		part.CertificateEnd = c.NotAfter
	}
	return part
}

// farmTrust is the farm's trust for operators, or why there is none.
func (o operators) farmTrust() (*trust.Trust, error) {
	if !o.n.trusting() {
		return nil, fmt.Errorf("%w: trust.mode is none", adminapi.ErrTrustMode)
	}
	return o.n.trust, nil
}

// withTokens is farmTrust where there are tokens, and keys that the farm makes.
func (o operators) withTokens() (*trust.Trust, error) {
	t, err := o.farmTrust()
	if err == nil && t.Mode() != trust.Auto {
		err = fmt.Errorf("%w: certificates and keys are those of files", adminapi.ErrTrustMode)
	}
	return t, err
}

// TrustStatus implements adminapi.Trust.
func (o operators) TrustStatus(context.Context) (adminapi.TrustPart, error) {
	if _, err := o.farmTrust(); err != nil {
		return adminapi.TrustPart{Mode: o.n.trustMode()}, nil
	}
	return *o.n.trustPart(), nil
}

// FarmCA implements adminapi.Trust.
func (o operators) FarmCA(context.Context) (string, error) {
	t, err := o.farmTrust()
	if err != nil {
		return "", err
	}
	pem := t.AuthoritiesPEM()
	if len(pem) == 0 {
		return "", fmt.Errorf("%w: this node has not joined a farm yet", adminapi.ErrUnknown)
	}
	return string(pem), nil
}

// CreateToken implements adminapi.Trust.
func (o operators) CreateToken(ctx context.Context, ttl time.Duration, uses int) (adminapi.NewToken, error) {
	t, err := o.withTokens()
	if err != nil {
		return adminapi.NewToken{}, err
	}
	token, info, err := t.CreateToken(ctx, ttl, uses)
	if err != nil {
		return adminapi.NewToken{}, trustForOperator(err)
	}
	return adminapi.NewToken{Token: token.Text(), TokenInfo: tokenInfo(info)}, nil
}

func tokenInfo(i trust.TokenInfo) adminapi.TokenInfo {
	return adminapi.TokenInfo{ID: i.ID, Created: i.Created, Expires: i.Expires, Uses: i.Uses, Used: i.Used}
}

// Tokens implements adminapi.Trust.
func (o operators) Tokens(ctx context.Context) ([]adminapi.TokenInfo, error) {
	t, err := o.withTokens()
	if err != nil {
		return nil, err
	}
	all, err := t.Tokens(ctx)
	if err != nil {
		return nil, trustForOperator(err)
	}
	out := make([]adminapi.TokenInfo, 0, len(all))
	for _, i := range all {
		out = append(out, tokenInfo(i))
	}
	return out, nil
}

// DropToken implements adminapi.Trust.
func (o operators) DropToken(ctx context.Context, id string) error {
	t, err := o.withTokens()
	if err != nil {
		return err
	}
	return trustForOperator(t.DropToken(ctx, id))
}

// RevokeNode implements adminapi.Trust.
func (o operators) RevokeNode(ctx context.Context, id string) error {
	t, err := o.farmTrust()
	if err != nil {
		return err
	}
	return trustForOperator(t.Revoke(ctx, id))
}

// ReadmitNode implements adminapi.Trust.
func (o operators) ReadmitNode(ctx context.Context, id string) error {
	t, err := o.farmTrust()
	if err != nil {
		return err
	}
	return trustForOperator(t.Readmit(ctx, id))
}

// RotateKey implements adminapi.Trust.
func (o operators) RotateKey(ctx context.Context) error {
	t, err := o.withTokens()
	if err != nil {
		return err
	}
	return trustForOperator(t.RotateGossipKey(ctx))
}

// trustForOperator says an error of trust in the words of the admin API.
func trustForOperator(err error) error {
	if errors.Is(err, trust.ErrNoToken) {
		return fmt.Errorf("%w: %w", adminapi.ErrUnknown, err)
	}
	return forOperator(err)
}

// trustMode is how members know each other, for people.
func (n *Node) trustMode() string {
	if !n.trusting() {
		return adminapi.TrustNone
	}
	return string(n.trust.Mode())
}

// trustAlarms are what keeps this node's trust from being as it should.
func (n *Node) trustAlarms() []string {
	if !n.trusting() {
		return nil
	}
	var alarms []string
	for _, text := range []string{n.trust.Trouble(), n.trust.Apart()} {
		if text != "" {
			alarms = append(alarms, text)
		}
	}
	return alarms
}
