package node

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

const (
	// maxVerdicts bounds what is remembered of clients' credentials, for those that were good and the others apart.
	maxVerdicts = 50_000
	// refusedFor is how long an upstream's refusal is remembered: a right that somebody has just been given is soon seen.
	refusedFor = 15 * time.Second
)

// forCaller does something for the client that ctx is of, if it may read the repository: since everybody may, since the
// operator has said that the farm may share it, or since the upstream says so of the client's own credential. Whether it
// may is found out without a look at what is cached, so that a refusal tells nothing about that. Where nobody has asked
// yet who may read the repository, do shows it, beside what it is for; then drop takes back what the client may not have.
func forCaller[T any](ctx context.Context, n *Node, repo oci.Repository, p probe, do func() (T, error), drop func(T)) (T, error) {
	s, known := n.standings.of(repo)
	if known && n.standings.old(repo, s) {
		defer n.lookAfter(ctx, repo, p)
	}
	switch {
	case n.upstreams.shared(repo):
		if v, err := do(); !refused(err) {
			return v, err
		}
		// The farm itself may not read it: the client may.
	case known && s.Public:
		return do()
	case !known:
		return forFirst(ctx, n, repo, p, do, drop)
	}
	if err := n.checkCaller(ctx, repo, s, p); err != nil {
		var none T
		return none, err
	}
	v, err := do()
	if refused(err) && ctx.Err() == nil {
		return do() // what was under way for others, who had no right
	}
	return v, err
}

// forFirst is forCaller where nobody has asked yet who may read the repository.
func forFirst[T any](ctx context.Context, n *Node, repo oci.Repository, p probe, do func() (T, error), drop func(T)) (T, error) {
	var none T
	v, failed := do()
	s, known := n.standings.of(repo)
	if !known && failed != nil {
		return none, failed
	}
	var err error
	if !known {
		s, err = n.standing(ctx, repo, p)
	}
	if err == nil && !s.Public {
		err = n.checkCaller(ctx, repo, s, p)
	}
	switch {
	case err != nil && failed == nil:
		drop(v)
		return none, err
	case err != nil:
		return none, err
	case refused(failed):
		return do() // now with the client's right
	}
	return v, failed
}

// keep is the drop of what need not be given back.
func keep[T any](T) {}

// checkCaller asks the upstream whether the client's own credential is good for a repository, or remembers what it said.
// A client without one is told what the upstream would tell it.
func (n *Node) checkCaller(ctx context.Context, repo oci.Repository, s standing, p probe) error {
	caller := access.CallerOf(ctx)
	if caller.Authorization == "" && s.Hidden {
		return oci.ErrNotFound
	}
	if caller.Authorization == "" {
		return n.unauthorized(ctx, repo)
	}
	key := n.secret.KeyOf(caller.Authorization)
	verdict, fresh, known := n.verdicts.Ask(key, repo)
	if !fresh {
		said, err := n.verdictOf(ctx, key, repo, p)
		switch {
		case err == nil:
			verdict = said
		case !known || verdict != access.MayRead || !cannotAsk(err):
			return err
		default:
			n.metrics.staleRights.Inc()
		}
	}
	switch verdict {
	case access.MayRead:
		n.rights.note(repo, upstream.Secret(caller.Authorization))
		return nil
	case access.Unauthorized:
		return n.unauthorized(ctx, repo)
	}
	return verdict.Err()
}

// verdictOf has the upstream asked about a client's credential, once however many requests bring it.
func (n *Node) verdictOf(ctx context.Context, key access.Key, repo oci.Repository, p probe) (access.Verdict, error) {
	authorization := access.CallerOf(ctx).Authorization
	v, err := n.flights.do(ctx, "check "+string(key[:])+repo.String(), func(ctx context.Context) (any, error) {
		return n.askAbout(ctx, authorization, repo, p)
	})
	if err != nil {
		return 0, err
	}
	cfg := n.cfg.Upstreams[repo.Upstream]
	switch verdict := v.(access.Verdict); verdict {
	case access.MayRead:
		n.verdicts.Allow(key, repo, cfg.AuthTTL, cfg.AuthStale)
		return verdict, nil
	case access.NotFound: // which may be about what was asked for
		n.verdicts.Forget(key, repo)
		return verdict, nil
	default:
		n.verdicts.Deny(key, repo, verdict, min(refusedFor, cfg.AuthTTL))
		return verdict, nil
	}
}

// askAbout asks the upstream about a credential: from here, or, on a host that cannot reach it, from the node that owns
// the repository's name.
func (n *Node) askAbout(ctx context.Context, authorization access.Credential, repo oci.Repository, p probe) (access.Verdict, error) {
	q := p.question(transfer.Check, repo)
	q.Right = string(authorization)
	if n.gossip.Self().Egress {
		_, err := n.checkHere(ctx, q)
		return verdictFrom(err)
	}
	if err := n.awaitFarm(ctx); err != nil {
		return 0, err
	}
	_, err := n.engine.Ask(ctx, repo.String(), q, func(ctx context.Context) (transfer.Answer, error) { return n.checkHere(ctx, q) })
	return verdictFrom(err)
}

// checkHere asks the upstream in the name of who has q.Right. The list of tags tells when what the question names is
// missing.
func (n *Node) checkHere(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	client, err := n.upstreams.of(q.Repository)
	if err != nil {
		return transfer.Answer{}, err
	}
	own := client.As(upstream.ClientIdentity(upstream.Secret(q.Right)))
	err = probeOf(q).ask(ctx, own, q.Repository)
	if missing(err) && q.Reference != "" && (probe{}).ask(ctx, own, q.Repository) == nil {
		err = nil
	}
	return transfer.Answer{}, err
}

// verdictFrom is what an upstream's answer means for a client. What is no answer is an error.
func verdictFrom(err error) (access.Verdict, error) {
	switch {
	case err == nil:
		return access.MayRead, nil
	case errors.Is(err, oci.ErrUnauthorized):
		return access.Unauthorized, nil
	case errors.Is(err, oci.ErrDenied):
		return access.Denied, nil
	case missing(err):
		return access.NotFound, nil
	}
	return 0, err
}

// unauthorized asks a client for credentials in the upstream's own words. One that has brought a token is told that it
// needs another: some ask for the same one again and again else (RFC 6750, section 3.1).
func (n *Node) unauthorized(ctx context.Context, repo oci.Repository) error {
	client, err := n.upstreams.of(repo)
	if err != nil {
		return err
	}
	challenge := client.Challenge(repo.Path)
	if challenge == "" {
		_, _ = n.flights.do(ctx, "ping "+repo.Upstream, func(ctx context.Context) (any, error) { return nil, client.Ping(ctx) })
		challenge = client.Challenge(repo.Path)
	}
	if challenge != "" && strings.HasPrefix(string(access.CallerOf(ctx).Authorization), "Bearer ") {
		challenge += `,error="insufficient_scope"`
	}
	return &access.UnauthorizedError{Challenge: challenge}
}

// quantum is the unit of time of refusals that could else tell, by how long they take, whether something is cached.
const quantum = 100 * time.Millisecond

// evenly holds back an answer that says that a repository has not got something, until a whole number of quanta has gone
// by since the request came.
func evenly(ctx context.Context, since time.Time, err error) error {
	if !missing(err) && !refused(err) {
		return err
	}
	wait := time.NewTimer(quantum - time.Since(since)%quantum)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	return err
}
