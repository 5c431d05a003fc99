package trust

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// How many certificates of registries a voter makes in a second, and how many at once after a while without: each costs
// the catalog a read, and a line in the log.
const (
	servesPerSec = 10
	servesBurst  = 100
)

// answerServe gives a member a certificate for its registry. It may ask for any names: which of them are its own nobody here
// can tell, so each is logged. A farm without a quorum makes none, as who was revoked might not be known here.
func (t *Trust) answerServe(ctx context.Context, s *signer, q *trustpb.Question, who applicant) (*trustpb.Answer, error) {
	if who.caller == "" {
		return nil, fmt.Errorf("%w: certificates of registries are for members that call", ErrBadRequest)
	}
	if err := take(ctx, t.clerk.answers); err != nil {
		return nil, err
	}
	defer func() { <-t.clerk.answers }()
	r, err := parseServeRequest(q.GetServe().GetRequest())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if !t.clerk.serves.Allow() {
		return nil, errBusy
	}
	asked, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	if err := t.fresh(asked, s, 0); err != nil {
		return nil, err
	}
	if t.Revoked(who.caller) {
		return nil, ErrRevoked
	}
	chain, err := s.issuer.issueServe(r, who.caller, t.cfg)
	if err != nil {
		return nil, err
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "certificate made for a registry", slog.String("peer", who.caller), slog.Any("names", r.names.list()))
	return s.grant(q, chain, t.State())
}

// issueServe makes a certificate for the registry of a node. It is for servers only, has no URI and no common name, so that
// it can pass for a member's by no reading of it; its holder's id is in the organizational unit, for people.
func (i *issuer) issueServe(r serveRequest, node string, cfg Config) (chain [][]byte, err error) {
	cfg = cfg.withDefaults()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{"pullonce farm " + clip(cfg.Farm, maxName-len("pullonce farm "))}, OrganizationalUnit: []string{node},
		},
		DNSNames:              r.names.hosts,
		IPAddresses:           r.names.ips(),
		NotBefore:             time.Now().Add(-cfg.Back),
		NotAfter:              i.ends(cfg),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, i.cert, r.key, i.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the registry of %s: %w", node, err)
	}
	return [][]byte{der}, nil
}
