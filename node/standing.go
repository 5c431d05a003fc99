package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

const (
	// recordStanding is the kind under which the store keeps who may read a repository.
	recordStanding = "standing"
	// maxStandings bounds those at hand.
	maxStandings = 20_000
	// publicFor is after how long the upstream is asked again whether everybody may still read a repository. While it
	// cannot be asked what it said last holds.
	publicFor = time.Hour
	// privateLeast is the least time after which it is asked again about what not everybody may read, else the upstream's
	// tag_ttl: until it is known that everybody may, clients have to go elsewhere.
	privateLeast = time.Second
	// writeEvery is how often it is written down that nothing has changed.
	writeEvery = publicFor / 10
)

// A standing says who may read a repository of an upstream: everybody, or whom the upstream knows.
type standing struct {
	Public bool      `json:"public"`
	Hidden bool      `json:"hidden,omitempty"` // the upstream says to those whom it does not know that there is no such thing
	Farm   bool      `json:"farm,omitempty"`   // the farm's own credentials let it read what not everybody may
	Exists bool      `json:"exists,omitempty"` // somebody was given something
	At     time.Time `json:"at"`               // when the upstream showed it
}

func (s standing) same(t standing) bool {
	s.At, t.At = time.Time{}, time.Time{}
	return s == t
}

// standings remembers what the upstreams have shown of their repositories, at hand and across a restart.
type standings struct {
	ttl    func(oci.Repository) time.Duration // the tag_ttl of an upstream
	store  *blobstore.Store
	atHand *otter.Cache[oci.Repository, standing]
	log    *slog.Logger

	written *otter.Cache[oci.Repository, time.Time] // when a standing was written down that has not changed since
	asked   *otter.Cache[oci.Repository, struct{}]  // of which the upstream was asked again a moment ago
}

// askedFor is how long a repository is left alone that was asked about beside what was going on.
const askedFor = 5 * time.Second

func newStandings(store *blobstore.Store, ttl func(oci.Repository) time.Duration, log *slog.Logger) *standings {
	return &standings{
		ttl: ttl, store: store, log: log,
		atHand:  otter.Must(&otter.Options[oci.Repository, standing]{MaximumSize: maxStandings}),
		written: otter.Must(&otter.Options[oci.Repository, time.Time]{MaximumSize: maxStandings}),
		asked: otter.Must(&otter.Options[oci.Repository, struct{}]{
			MaximumSize: maxStandings, ExpiryCalculator: otter.ExpiryWriting[oci.Repository, struct{}](askedFor),
		}),
	}
}

// old tells whether the upstream is to be asked again about a repository.
func (s *standings) old(repo oci.Repository, known standing) bool {
	good := publicFor
	if !known.Public {
		good = max(privateLeast, s.ttl(repo))
	}
	return time.Since(known.At) > good
}

// of is what is known of a repository, however old.
func (s *standings) of(repo oci.Repository) (standing, bool) {
	if known, ok := s.atHand.GetIfPresent(repo); ok {
		return known, true
	}
	raw, _, err := s.store.Record(recordStanding, repo.String())
	var known standing
	if err != nil || json.Unmarshal(raw, &known) != nil {
		return standing{}, false
	}
	s.atHand.Set(repo, known)
	return known, true
}

// change remembers what the upstream has shown just now.
func (s *standings) change(repo oci.Repository, change func(*standing)) {
	now, _ := s.of(repo)
	change(&now)
	now.At = time.Now()
	s.note(repo, now)
}

// note remembers a standing, unless a later one is known. What says the same as before is written down only now and then,
// and what may be a name that somebody made up not at all.
func (s *standings) note(repo oci.Repository, now standing) {
	before, ok := s.of(repo)
	if ok && before.At.After(now.At) {
		return
	}
	s.atHand.Set(repo, now)
	at, written := s.written.GetIfPresent(repo)
	if ok && before.same(now) && written && now.At.Sub(at) < writeEvery || !now.Public && !now.Exists && !before.Public {
		return
	}
	raw, err := json.Marshal(now)
	if err == nil {
		err = s.store.PutRecord(recordStanding, repo.String(), raw, time.Time{})
	}
	s.written.Set(repo, now.At)
	if err != nil {
		s.log.Warn("standing of a repository not kept", slog.String("repository", repo.String()), slog.Any("error", err))
	}
}

// learn takes over what a peer said of a repository, or what its refusal shows.
func (s *standings) learn(repo oci.Repository, a transfer.Answer, err error) {
	switch {
	case err == nil && (a.Public || a.Private):
		s.note(repo, standingIn(a))
	case errors.Is(err, oci.ErrUnauthorized), errors.Is(err, oci.ErrDenied):
		s.change(repo, func(now *standing) { now.Public, now.Hidden = false, false })
	}
}

// standingIn is what a peer said of a repository.
func standingIn(a transfer.Answer) standing {
	return standing{Public: a.Public, Hidden: a.Hidden, Farm: a.FarmReads, Exists: true, At: time.Now().Add(-a.StandingAge)}
}

// in is a with who may read its repository.
func (s standing) in(a transfer.Answer) transfer.Answer {
	a.Public, a.Private, a.Hidden, a.FarmReads, a.StandingAge = s.Public, !s.Public, s.Hidden, s.Farm, age(s.At)
	return a
}

// fill completes an answer to a peer with who may read the repository.
func (s *standings) fill(repo oci.Repository, a transfer.Answer) transfer.Answer {
	if known, ok := s.of(repo); ok {
		a = known.in(a)
	}
	return a
}

// A probe is what a client asks for: with it the upstream is asked who may read the repository.
type probe struct {
	reference string // a tag, a digest, or "": the repository as a whole
	blob      bool   // reference is a blob's digest
}

// ask is the question whether the repository can be read, put to c. ErrNotFound says nothing about that.
func (p probe) ask(ctx context.Context, c *upstream.Client, repo oci.Repository) error {
	var err error
	switch {
	case p.reference == "":
		_, _, err = c.Tags(ctx, repo.Path, 1, "")
	case p.blob:
		var d oci.Digest
		if d, err = oci.ParseDigest(p.reference); err == nil {
			_, err = c.StatBlob(ctx, repo.Path, d)
		}
	default:
		_, _, err = c.Resolve(ctx, repo.Path, p.reference, oci.ManifestTypes())
	}
	return err
}

func (p probe) question(kind transfer.Kind, repo oci.Repository) transfer.Question {
	return transfer.Question{Kind: kind, Repository: repo, Reference: p.reference, Blob: p.blob}
}

func probeOf(q transfer.Question) probe { return probe{reference: q.Reference, blob: q.Blob} }

// standing finds out who may read a repository of which that is not known here: from the node that owns the blob that a
// client wants, which has just read it or has asked for it, or else from the one that owns the repository's name.
func (n *Node) standing(ctx context.Context, repo oci.Repository, p probe) (standing, error) {
	v, err := n.flights.do(ctx, "standing "+repo.String(), func(ctx context.Context) (any, error) {
		if s, ok := n.standingByBlob(ctx, repo, p); ok {
			return s, nil
		}
		return n.standingOfOwner(ctx, repo, p)
	})
	if err != nil {
		return standing{}, err
	}
	return v.(standing), nil
}

// lookAfter asks again who may read a repository, beside what is going on, and not at every request.
func (n *Node) lookAfter(ctx context.Context, repo oci.Repository, p probe) {
	if _, ok := n.standings.asked.SetIfAbsent(repo, struct{}{}); !ok {
		return
	}
	n.flights.begin(ctx, "standing "+repo.String(), func(ctx context.Context) (any, error) {
		return n.standingOfOwner(ctx, repo, p)
	})
}

func (n *Node) standingByBlob(ctx context.Context, repo oci.Repository, p probe) (standing, bool) {
	d, err := oci.ParseDigest(p.reference)
	if err != nil || !p.blob || n.awaitFarm(ctx) != nil {
		return standing{}, false
	}
	q := transfer.Question{Kind: transfer.Confirm, Repository: repo, Reference: p.reference}
	_, _ = n.ask(ctx, p.reference, q, func(ctx context.Context) (transfer.Answer, error) { // which learns
		size, err := n.confirmHere(ctx, repo, d)
		return n.standings.fill(repo, transfer.Answer{Digest: d, Size: size}), err
	})
	return n.standings.of(repo)
}

func (n *Node) standingOfOwner(ctx context.Context, repo oci.Repository, p probe) (standing, error) {
	if err := n.awaitFarm(ctx); err != nil {
		return standing{}, err
	}
	q := p.question(transfer.Standing, repo)
	a, err := n.ask(ctx, repo.String(), q, func(ctx context.Context) (transfer.Answer, error) { return n.standingHere(ctx, q) })
	if err != nil {
		return standing{}, err
	}
	return standingIn(a), nil
}

// standingHere asks the upstream, in nobody's name, unless that was done within the hour. What the question names may
// not be there: then the list of tags tells. When the upstream cannot be asked all nodes are, for what they know.
func (n *Node) standingHere(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	known, ok := n.standings.of(q.Repository)
	if ok && !n.standings.old(q.Repository, known) {
		return n.standings.fill(q.Repository, transfer.Answer{}), nil
	}
	v, err := n.flights.do(ctx, "upstream standing "+q.Repository.String(), func(ctx context.Context) (any, error) {
		now, shown, err := n.askEverybody(ctx, q.Repository, probeOf(q))
		switch {
		case shown:
			n.standings.note(q.Repository, now)
		case err == nil: // for now
		case ok:
			now = known // as old as it is
		default:
			if now, ok = n.standingElsewhere(ctx, q); !ok {
				return nil, err
			}
			n.standings.note(q.Repository, now)
		}
		return now, nil
	})
	if err != nil {
		return transfer.Answer{}, err
	}
	return v.(standing).in(transfer.Answer{}), nil
}

// askEverybody tells whether the upstream gives a repository to somebody whom it does not know, and if not, where that is
// of use, whether it gives it to the farm. One that says that there is no such thing, even of the list of tags, may hide
// what is private, or have nothing yet: that shows nothing.
func (n *Node) askEverybody(ctx context.Context, repo oci.Repository, p probe) (now standing, shown bool, err error) {
	client, err := n.upstreams.of(repo)
	if err != nil {
		return standing{}, false, err
	}
	before, _ := n.standings.of(repo)
	now = standing{Exists: before.Exists, At: time.Now()}
	anonymous := client.As(upstream.Anonymous())
	err = p.ask(ctx, anonymous, repo)
	if missing(err) && p.reference != "" {
		err = probe{}.ask(ctx, anonymous, repo)
	}
	switch {
	case err == nil:
		now.Public, now.Exists = true, true
		return now, true, nil
	case !refused(err) && !missing(err):
		return standing{}, false, fmt.Errorf("who may read %s: %w", repo, err)
	}
	now.Hidden = missing(err)
	if n.upstreams.shared(repo) && client.HasCredentials(repo.Path) {
		now.Farm = p.ask(ctx, client.As(upstream.Farm()), repo) == nil
		now.Exists = now.Exists || now.Farm
	}
	return now, !now.Hidden || now.Farm, nil
}

// standingElsewhere is what the other nodes know of a repository. One that says that not everybody may read it is believed
// before any that says otherwise.
func (n *Node) standingElsewhere(ctx context.Context, q transfer.Question) (known standing, ok bool) {
	for _, a := range n.engine.AskMembers(ctx, q) {
		if a.Private {
			return standingIn(a), true
		}
		if a.Public && (!ok || a.StandingAge < age(known.At)) {
			known, ok = standingIn(a), true
		}
	}
	return known, ok
}

// refused tells whether an upstream will not give something to who asks.
func refused(err error) bool {
	return errors.Is(err, oci.ErrUnauthorized) || errors.Is(err, oci.ErrDenied)
}

// missing tells whether an upstream says that it has no such thing.
func missing(err error) bool {
	return errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrNameUnknown)
}
