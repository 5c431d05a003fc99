package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"sync/atomic"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// Pauses between tries to get a certificate for the registry: while there is none clients are turned away.
const (
	firstServePause = time.Second
	lastServePause  = time.Minute
)

// errNothingToShow is what clients' handshakes end with while there is no certificate for them.
var errNothingToShow = errors.New("the registry has no certificate of the farm's authority yet")

// serving is what a registry shows to its clients.
type serving struct {
	names atomic.Pointer[names] // that it is to have; nil: it shows nothing
	pair  atomic.Pointer[tls.Certificate]
	kick  chan struct{} // wakes the loop that gets certificates
}

// ServeAs has Run get a certificate of the farm's authority for a registry that clients reach by these host names and IP
// addresses, 1 to 32, and renew it in time. It may be called at any time, and again with others: until there is a
// certificate for them the one from before is shown. What an earlier process got is used again.
func (t *Trust) ServeAs(list []string) error {
	if t.Mode() != Auto {
		return errors.New("certificate for the registry: the farm has no authority of its own")
	}
	n, err := parseNames(list)
	if err != nil {
		return fmt.Errorf("certificate for the registry: %w", err)
	}
	if t.serving.pair.Load() == nil {
		pair, err := t.keptServing()
		if err != nil {
			t.log.Warn("certificate of the registry not taken: another will be made", slog.Any("error", err))
		}
		t.serving.pair.Store(pair)
	}
	t.serving.names.Store(&n)
	select {
	case t.serving.kick <- struct{}{}:
	default:
	}
	return nil
}

// DoorCertificate is for tls.Config.GetCertificate of the registry: the certificate for its names. While there is none, or
// none that has not run out, the handshake is refused, so that nothing is served that clients could not trust.
func (t *Trust) DoorCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair := t.serving.pair.Load()
	switch {
	case pair == nil:
		return nil, errNothingToShow
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate of the registry has run out at %s", stamp(pair.Leaf.NotAfter))
	}
	return pair, nil
}

// keepServing gets certificates for the registry in time, until ctx ends.
func (t *Trust) keepServing(ctx context.Context) error {
	early := mrand.Float64() // so that nodes that were made together do not ask together
	pause := firstServePause
	for {
		wait := t.serveWait(early)
		if wait <= 0 {
			err := t.renewServing(ctx)
			if wait = 0; err != nil && ctx.Err() == nil {
				t.noteNotServing(ctx, err, pause)
				wait = pause/2 + mrand.N(pause/2)
				pause = min(2*pause, lastServePause)
			} else {
				pause = firstServePause
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-t.serving.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// serveWait is how long it is until the registry needs a certificate, at most as long as one is not looked at.
func (t *Trust) serveWait(early float64) time.Duration {
	wanted, pair := t.serving.names.Load(), t.serving.pair.Load()
	switch {
	case wanted == nil:
		return renewLook
	case pair == nil || checkServing(pair.Leaf, *wanted, t.view.Load()) != nil:
		return 0
	}
	at := t.renewalOf(pair.Leaf).Add(time.Duration(early * float64(t.cfg.Lifetime) / 20))
	return min(renewLook, time.Until(at))
}

// noteNotServing says why there is no certificate, once when it has lasted: a farm that starts has none at first.
func (t *Trust) noteNotServing(ctx context.Context, err error, pause time.Duration) {
	level := slog.LevelDebug
	if pause < lastServePause && 2*pause >= lastServePause {
		level = slog.LevelWarn
	}
	t.log.LogAttrs(ctx, level, "no certificate for the registry", slog.Any("names", t.serving.names.Load().list()), slog.Any("error", err))
}

// renewServing gets a certificate for a new key, here or from a voter, and shows it from now on.
func (t *Trust) renewServing(ctx context.Context) error {
	if !t.Member() {
		return ErrNotMember
	}
	wanted := *t.serving.names.Load()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the registry's key: %w", err)
	}
	csr, err := makeServeRequest(wanted, key)
	if err != nil {
		return err
	}
	chain, err := t.askServing(ctx, &trustpb.Question{Kind: &trustpb.Question_Serve_{Serve: &trustpb.Question_Serve{Request: csr}}})
	if err != nil {
		return err
	}
	pair, err := newServing(chain, key)
	if err != nil {
		return err
	}
	if err := checkServing(pair.Leaf, wanted, t.view.Load()); err != nil {
		return err
	}
	t.serving.pair.Store(pair)
	t.dues.owe(dueServing)
	t.writeInTurn()
	t.log.LogAttrs(ctx, slog.LevelInfo, "certificate for the registry", slog.Any("names", wanted.list()), slog.Time("ends", pair.Leaf.NotAfter))
	return nil
}

// askServing asks this node itself, when it can sign, or a voter.
func (t *Trust) askServing(ctx context.Context, q *trustpb.Question) (chain [][]byte, err error) {
	s, err := t.signer()
	if err != nil {
		return nil, err
	}
	var a *trustpb.Answer
	if s != nil {
		a, err = t.answer(ctx, s, q, applicant{caller: t.Node()})
	} else {
		a, err = t.askVoters(ctx, q, applicant{})
	}
	if err != nil {
		return nil, err
	}
	g, err := granted(a, q, t.State().CAs)
	if err != nil {
		return nil, err
	}
	return g.GetChain(), t.takeState(ctx, g.GetState())
}

// newServing is a certificate, DER, with its key.
func newServing(chain [][]byte, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("%d certificates: want 1 to %d", len(chain), maxChain)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("read the certificate of the registry: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the key is not that of the registry's certificate")
	}
	return &tls.Certificate{Certificate: cloneAll(chain), PrivateKey: key, Leaf: leaf}, nil
}

// checkServing tells what is wrong with a certificate for a registry of these names, in a farm with these authorities.
func checkServing(leaf *x509.Certificate, wanted names, v *view) error {
	if has, err := namesOf(leaf.DNSNames, leaf.IPAddresses); err != nil || !has.equal(wanted) {
		return errors.New("the certificate has other names than the registry")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: v.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}
