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

// veryOld is the age from which on a standing is looked after before it is gone by.
const veryOld = 2 * publicFor

// forCaller does something for the client that ctx is of, if it may read the repository: since everybody may, since the
// operator has said that the farm may share what it can read, or since the upstream says so of the client's own credential.
// Whether it may is found out without a look at what is cached, so that a refusal tells nothing about that. What is done
// may itself show who may read the repository, for the first time or anew; then drop takes back what the client may not
// have.
func forCaller[T any](ctx context.Context, n *Node, repo oci.Repository, p probe, do func() (T, error), drop func(T)) (T, error) {
	var none T
	s, known := n.knownStanding(ctx, repo, p)
	checked := known && !n.upstreams.open(repo, s)
	if checked {
		if err := n.checkCaller(ctx, repo, s, p); err != nil {
			return none, err
		}
	}
	v, failed := do()
	if !checked {
		refusal := n.checkAfter(ctx, repo, p, failed)
		if refusal != nil && failed == nil {
			drop(v)
		}
		if refusal != nil {
			return none, refusal
		}
	}
	if refused(failed) && ctx.Err() == nil {
		return do() // now with the client's right; what was under way for others had none
	}
	return v, failed
}

// knownStanding is who may read a repository as far as that is known here. What is old is looked after beside, what is very
// old before.
func (n *Node) knownStanding(ctx context.Context, repo oci.Repository, p probe) (standing, bool) {
	s, known := n.standings.of(repo)
	if !known || !n.standings.old(repo, s) {
		return s, known
	}
	n.lookAfter(ctx, repo, p)
	if time.Since(s.At) > veryOld {
		if now, err := n.standing(ctx, repo, p); err == nil {
			return now, true
		}
	}
	return s, true
}

// checkAfter is nil when a client may have what was done for it before it was known, or while it seemed, that everybody may
// read the repository. failed is how that has ended.
func (n *Node) checkAfter(ctx context.Context, repo oci.Repository, p probe, failed error) error {
	s, known := n.standings.of(repo)
	if !known {
		if failed != nil {
			return failed
		}
		var err error
		if s, err = n.standing(ctx, repo, p); err != nil {
			return err
		}
	}
	if n.upstreams.open(repo, s) {
		return nil
	}
	return n.checkCaller(ctx, repo, s, p)
}

// keep is the drop of what need not be given back.
func keep[T any](T) {}

// checkCaller asks the upstream whether the client's own credential is good for a repository, or remembers what it said.
// A client without one is told what the upstream would tell it.
func (n *Node) checkCaller(ctx context.Context, repo oci.Repository, s standing, p probe) error {
	caller := access.CallerOf(ctx)
	switch {
	case caller.OwnName:
		// What this client has is for the farm itself, and must not go to an upstream.
		return &access.DeniedError{Message: "private images of " + repo.Upstream + " are not given out by the farm's own name"}
	case caller.Authorization == "" && s.Hidden:
		return oci.ErrNotFound
	case caller.Authorization == "":
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

// checkHere asks the upstream in the name of who has q.Right for what the question names: that something else may be read,
// such as the list of tags, is another right.
func (n *Node) checkHere(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	client, err := n.upstreams.of(q.Repository)
	if err != nil {
		return transfer.Answer{}, err
	}
	own := client.As(upstream.ClientIdentity(upstream.Secret(q.Right)))
	return transfer.Answer{}, probeOf(q).ask(ctx, own, q.Repository)
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
