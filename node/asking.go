package node

import (
	"context"
	"errors"
	"slices"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// A name is in whose an upstream is asked.
type name struct {
	upstream.Identity
	anonymous bool
	right     upstream.Secret // a client's
}

// ask puts a question to the upstream of a repository, in one name after another until it answers one: in nobody's, in the
// farm's own, in that of a client that was shown to have the right. In whose name it answers shows who may read the
// repository.
func (u *upstreams) ask(ctx context.Context, repo oci.Repository, question func(c *upstream.Client) error) error {
	return u.askAs(ctx, repo, func(_ name, c *upstream.Client) (bool, error) { return true, question(c) })
}

// askAs is ask for a question that looks at the name. shows says whether that it was answered shows who may read the
// repository now.
func (u *upstreams) askAs(ctx context.Context, repo oci.Repository, question func(who name, c *upstream.Client) (shows bool, err error)) error {
	client, err := u.of(repo)
	if err != nil {
		return err
	}
	refusal, hidden := false, false // to who is nobody
	for _, who := range u.names(client, repo) {
		var shows bool
		shows, err = question(who, client.As(who.Identity))
		if err == nil && shows {
			u.answered(repo, who, refusal, hidden)
		}
		if err == nil {
			return nil
		}
		if who.anonymous && (refused(err) || missing(err) && !u.settled(repo)) {
			refusal, hidden = true, missing(err)
			u.refusedNobody(repo, hidden)
		}
		switch {
		case who.right != "" && errors.Is(err, oci.ErrUnauthorized):
			u.rights.drop(repo, who.right)
		case missing(err) && u.settled(repo):
			return err
		case ctx.Err() != nil || !missing(err) && !refused(err) && !limited(err):
			return err
		}
	}
	return err
}

// answered notes what it shows that an upstream has answered in a name, after it has refused, or hidden, the repository to
// who is nobody, or was not asked in nobody's name.
func (u *upstreams) answered(repo oci.Repository, who name, refusal, hidden bool) {
	s, known := u.standings.of(repo)
	if who.anonymous {
		u.standings.change(repo, func(now *standing) { *now = standing{Public: true, Exists: true} })
		return
	}
	if refusal || known && !s.Public {
		u.standings.change(repo, func(now *standing) {
			now.Public, now.Exists, now.Farm = false, true, now.Farm || who.right == ""
			if refusal {
				now.Hidden = hidden
			}
		})
	}
}

// refusedNobody notes that an upstream has refused a repository to who is nobody, or has hidden it.
func (u *upstreams) refusedNobody(repo oci.Repository, hidden bool) {
	if s, known := u.standings.of(repo); hidden && !(known && !s.Public) {
		return // it may not be there: that somebody gets it shows that it is hidden
	}
	u.standings.change(repo, func(now *standing) { now.Public, now.Hidden = false, hidden })
}

// settled tells whether everybody may read a repository: then nobody else need be asked for what it has not got.
func (u *upstreams) settled(repo oci.Repository) bool {
	s, known := u.standings.of(repo)
	return known && s.Public && !u.standings.old(repo, s)
}

func limited(err error) bool {
	_, ok := errors.AsType[*oci.TooManyRequestsError](err)
	return ok
}

// names are those in which a repository is asked for, the most promising first.
func (u *upstreams) names(client *upstream.Client, repo oci.Repository) []name {
	var own []name
	if client.HasCredentials(repo.Path) {
		own = append(own, name{Identity: upstream.Farm()})
	}
	for _, r := range u.rights.all(repo) {
		own = append(own, name{Identity: upstream.ClientIdentity(r), right: r})
	}
	nobody := name{Identity: upstream.Anonymous(), anonymous: true}
	s, known := u.standings.of(repo)
	switch {
	case len(own) == 0:
		return []name{nobody}
	case known && !s.Public && !u.standings.old(repo, s):
		return own
	}
	return slices.Insert(own, 0, nobody)
}

// open tells whether all clients may have what is in a repository: since everybody may read it, or since the operator has
// said so and the farm itself may.
func (u *upstreams) open(repo oci.Repository, s standing) bool {
	return s.Public || s.Farm && u.shared(repo)
}

// shared tells whether the operator has said that the farm may give a repository to all its clients.
func (u *upstreams) shared(repo oci.Repository) bool {
	return slices.ContainsFunc(u.cfg.Upstreams[repo.Upstream].Shared, func(p access.Pattern) bool { return p.Match(repo.Path) })
}

// ask asks the owner of a document, and learns from the answer who may read its repository.
func (n *Node) ask(ctx context.Context, key string, q transfer.Question, here func(context.Context) (transfer.Answer, error)) (transfer.Answer, error) {
	a, err := n.engine.Ask(ctx, key, q, here)
	n.standings.learn(q.Repository, a, err)
	return a, err
}
