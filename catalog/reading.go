package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// maxPage bounds a page of a list, and with it an answer.
const maxPage = 1000

// The questions below are answered on every node, whether it keeps a replica or not. Unless stale will do they see
// every write that was answered before; the error is ErrNoQuorum within Config.Patience when that cannot be had. A
// stale answer comes from this node's replica, or from any voter.

// Tag is the manifest that a tag names.
func (c *Catalog) Tag(ctx context.Context, repository, tag string, stale bool) (Tag, bool, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_TAG, Repository: repository, Name: tag}, stale)
	if err != nil || !a.GetFound() {
		return Tag{}, false, err
	}
	tags, err := readTags(a.GetTags())
	if err != nil || len(tags) != 1 {
		return Tag{}, false, err
	}
	return tags[0], true, nil
}

// Tags are up to n tags of a repository after the name after, and whether the repository is known.
func (c *Catalog) Tags(ctx context.Context, repository, after string, n int, stale bool) ([]Tag, bool, error) {
	a, err := c.ask(ctx, &catalogpb.Question{
		Kind: catalogpb.Question_KIND_TAGS, Repository: repository, Name: after, Count: page(n),
	}, stale)
	if err != nil {
		return nil, false, err
	}
	tags, err := readTags(a.GetTags())
	return tags, a.GetFound(), err
}

// Repositories are up to n repositories with a manifest after the name after.
func (c *Catalog) Repositories(ctx context.Context, after string, n int, stale bool) ([]string, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_REPOSITORIES, Name: after, Count: page(n)}, stale)
	return a.GetNames(), err
}

// Manifest is a manifest of a repository with the tags that name it.
func (c *Catalog) Manifest(ctx context.Context, repository string, d oci.Digest, stale bool) (*Manifest, []Tag, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_MANIFEST, Repository: repository, Digest: d.String()}, stale)
	if err != nil {
		return nil, nil, err
	}
	if !a.GetFound() || len(a.GetManifests()) != 1 {
		return nil, nil, notFound("manifest %s in %s", d, repository)
	}
	m, err := readManifest(a.GetManifests()[0])
	if err != nil {
		return nil, nil, err
	}
	tags, err := readTags(a.GetTags())
	return m, tags, err
}

// Link is a blob as a repository links it.
func (c *Catalog) Link(ctx context.Context, repository string, d oci.Digest, stale bool) (Link, bool, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_LINK, Repository: repository, Digest: d.String()}, stale)
	l := a.GetLink()
	return Link{Size: l.GetSize(), Index: l.GetIndex(), Since: fromNanos(l.GetTime()), Used: a.GetUsed()}, a.GetFound(), err
}

// Referrers are the manifests of a repository whose subject is d; only those of an artifact type unless that is "".
func (c *Catalog) Referrers(ctx context.Context, repository string, d oci.Digest, artifactType string, stale bool) ([]*Manifest, error) {
	a, err := c.ask(ctx, &catalogpb.Question{
		Kind: catalogpb.Question_KIND_REFERRERS, Repository: repository, Digest: d.String(), Name: artifactType,
	}, stale)
	var found []*Manifest
	for _, p := range a.GetManifests() {
		m, err := readManifest(p)
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	return found, err
}

// Pin is the pin of a name.
func (c *Catalog) Pin(ctx context.Context, name string, stale bool) (Pin, bool, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_PIN, Name: name}, stale)
	if err != nil || !a.GetFound() {
		return Pin{}, false, err
	}
	d, err := readDigest(a.GetPin().GetDigest())
	return Pin{name, d, fromNanos(a.GetPin().GetUntil())}, err == nil, err
}

// Digests are up to n digests that any repository has, as a blob or as a manifest, after the digest after.
func (c *Catalog) Digests(ctx context.Context, after oci.Digest, n int, stale bool) ([]oci.Digest, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_DIGESTS, Digest: after.String(), Count: page(n)}, stale)
	var all []oci.Digest
	for _, name := range a.GetNames() {
		d, err := oci.ParseDigest(name)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, err
}

// Holds tells whether any repository has d, as a blob or as a manifest.
func (c *Catalog) Holds(ctx context.Context, d oci.Digest, stale bool) (bool, error) {
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_HOLDS, Digest: d.String()}, stale)
	return a.GetFound(), err
}

func page(n int) uint32 { return uint32(max(0, min(n, maxPage))) }

// ask answers from this node's state when that is sure to be right, else has the leader answer: it knows at once what a
// follower only learns with the next beat.
func (c *Catalog) ask(ctx context.Context, q *catalogpb.Question, stale bool) (*catalogpb.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Patience)
	defer cancel()
	if r := c.current(); r != nil && stale {
		return answerQuestion(r.machine.view(), q)
	}
	began := time.Now()
	var answer *catalogpb.Answer
	here := func(r *replica) (err error) {
		answer, err = c.answerAsLeader(ctx, r, q)
		return err
	}
	there := func(client catalogpb.CatalogClient, catalog string) (*catalogpb.Detour, error) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
		defer cancel()
		reply, err := client.Query(ctx, &catalogpb.QueryRequest{Catalog: catalog, Stale: stale, Question: q})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotLeader, err) // asking again does no harm
		}
		answer = reply.GetAnswer()
		return reply.GetDetour(), nil
	}
	var err error
	if stale {
		err = c.atAnyVoter(ctx, there)
	} else {
		err = c.atLeader(ctx, here, there)
	}
	c.meters.asked(kindRead, began, err)
	return answer, err
}

// atAnyVoter asks one voter after the other, each once, until one answers, be there a leader or not.
func (c *Catalog) atAnyVoter(ctx context.Context, there func(catalogpb.CatalogClient, string) (*catalogpb.Detour, error)) error {
	last, silent := errNoLeader, map[string]bool{}
	for node := c.nextToAsk("", silent); node != "" && ctx.Err() == nil; node = c.nextToAsk("", silent) {
		_, err := c.askLeader(node, there)
		if !errors.Is(err, errNotLeader) {
			return err
		}
		silent[node], last = true, err
	}
	return noQuorum(ctx, last)
}

// answerAsLeader answers, unless it is to be told what no repository has while another catalog has hosted content, too:
// what is kept here may be of that one.
func (c *Catalog) answerAsLeader(ctx context.Context, r *replica, q *catalogpb.Question) (*catalogpb.Answer, error) {
	c.mu.Lock()
	refusing := c.refusing
	c.mu.Unlock()
	if refusing && q.GetKind() == catalogpb.Question_KIND_HOLDS_ALL {
		return nil, ErrRefused
	}
	return r.answer(ctx, q)
}

// answer is the leader's answer, with all that was committed before.
func (r *replica) answer(ctx context.Context, q *catalogpb.Question) (*catalogpb.Answer, error) {
	index, err := r.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.reach(ctx, index); err != nil {
		return nil, err
	}
	return answerQuestion(r.machine.view(), q)
}

// Query implements catalogpb.CatalogServer.
func (s *server) Query(ctx context.Context, p *catalogpb.QueryRequest) (*catalogpb.QueryReply, error) {
	r := s.catalog.current()
	var answer *catalogpb.Answer
	err := errNotLeader
	switch {
	case r == nil || r.catalog != p.GetCatalog():
	case p.GetStale():
		answer, err = answerQuestion(r.machine.view(), p.GetQuestion())
	case r.leads():
		answer, err = s.catalog.answerAsLeader(ctx, r, p.GetQuestion())
	}
	if err != nil {
		return &catalogpb.QueryReply{Detour: s.catalog.detourOf(err)}, nil
	}
	return &catalogpb.QueryReply{Answer: answer}, nil
}
