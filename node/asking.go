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
// repository. counted says that the upstream counts such questions against a limit: what everybody may read is then asked
// for in the farm's name, which has more left as a rule.
func (u *upstreams) ask(ctx context.Context, repo oci.Repository, counted bool, question func(*upstream.Client) error) error {
	client, err := u.of(repo)
	if err != nil {
		return err
	}
	hidden := false // from who is nobody
	for _, who := range u.names(client, repo, counted) {
		err = question(client.As(who.Identity))
		hidden = hidden || who.anonymous && missing(err)
		switch {
		case err == nil && who.anonymous:
			u.standings.note(repo, standing{Public: true})
			return nil
		case err == nil:
			if hidden {
				u.standings.note(repo, standing{Hidden: true})
			}
			return nil
		case who.anonymous && refused(err):
			u.standings.note(repo, standing{})
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
func (u *upstreams) names(client *upstream.Client, repo oci.Repository, counted bool) []name {
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
	case known && s.Public && counted:
		return append(own, nobody)
	case known && !s.Public && !u.standings.old(repo, s):
		return own
	}
	return slices.Insert(own, 0, nobody)
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
