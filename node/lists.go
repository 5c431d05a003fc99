package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// recordList is the kind under which the store keeps pages of tags and referrers.
const recordList = "list"

// A keptList is a page as the store keeps it.
type keptList struct {
	Body     []byte    `json:"body"`
	Link     string    `json:"link,omitempty"`
	Filtered bool      `json:"filtered,omitempty"`
	At       time.Time `json:"at"` // when the upstream gave it
	Until    time.Time `json:"until"`
}

// Tags serves the registry door.
func (n *Node) Tags(ctx context.Context, repo oci.Repository, size int, last string) (registryapi.Page, error) {
	return n.listFor(ctx, transfer.Question{Kind: transfer.Tags, Repository: repo, N: size, Last: last})
}

// Referrers serves the registry door.
func (n *Node) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType string) (registryapi.Page, error) {
	return n.listFor(ctx, transfer.Question{Kind: transfer.Referrers, Repository: repo, Reference: d.String(), Last: artifactType})
}

// listFor gets a page for a client that may have it.
func (n *Node) listFor(ctx context.Context, q transfer.Question) (registryapi.Page, error) {
	if n.hosts(q.Repository) {
		return n.list(ctx, q)
	}
	return forCaller(ctx, n, q.Repository, probe{}, func() (registryapi.Page, error) { return n.list(ctx, q) }, keep)
}

// list gets a page: the owner of the repository's name asks the upstream once per tag_ttl for the whole farm.
func (n *Node) list(ctx context.Context, q transfer.Question) (registryapi.Page, error) {
	if err := n.awaitFarm(ctx); err != nil {
		return registryapi.Page{}, err
	}
	a, err := n.ask(ctx, listKey(q), q, func(ctx context.Context) (transfer.Answer, error) {
		return n.Document(ctx, q)
	})
	if err != nil {
		return registryapi.Page{}, err
	}
	return registryapi.Page{Raw: a.Body, Link: a.Link, Filtered: a.Filtered, Stale: a.Stale}, nil
}

func listKey(q transfer.Question) string {
	return fmt.Sprintf("%d %s %s %d %q", q.Kind, q.Repository, q.Reference, q.N, q.Last)
}

func (n *Node) tagsHere(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	return n.listHere(ctx, q, func(ctx context.Context) (keptList, error) {
		var page keptList
		err := n.upstreams.ask(ctx, q.Repository, func(c *upstream.Client) (err error) {
			page.Body, page.Link, err = c.Tags(ctx, q.Repository.Path, q.N, q.Last)
			return err
		})
		return page, err
	})
}

func (n *Node) referrersHere(ctx context.Context, q transfer.Question, d oci.Digest) (transfer.Answer, error) {
	return n.listHere(ctx, q, func(ctx context.Context) (keptList, error) {
		var page keptList
		err := n.upstreams.ask(ctx, q.Repository, func(c *upstream.Client) (err error) {
			page.Body, page.Filtered, err = c.Referrers(ctx, q.Repository.Path, d, q.Last)
			return err
		})
		return page, err
	})
}

// listHere gives a page that is kept and fresh, or asks for it. When the upstream cannot be asked the last page that
// this node or another knows is given and marked as stale.
func (n *Node) listHere(ctx context.Context, q transfer.Question, ask func(context.Context) (keptList, error)) (transfer.Answer, error) {
	key := listKey(q)
	kept, known := n.keptList(key)
	if known && time.Now().Before(kept.Until) {
		return kept.answer(false), nil
	}
	v, err := n.flights.do(ctx, key, func(ctx context.Context) (any, error) {
		page, err := ask(ctx)
		if err != nil {
			return n.lastList(ctx, q, err)
		}
		page.At = time.Now()
		page.Until = page.At.Add(n.cfg.Upstreams[q.Repository.Upstream].TagTTL)
		if raw, err := json.Marshal(page); err == nil {
			_ = n.store.PutRecord(recordList, key, raw, time.Time{}) // too large to keep is no failure
		}
		return page.answer(false), nil
	})
	if err != nil {
		return transfer.Answer{}, err
	}
	return v.(transfer.Answer), nil
}

// lastList is the last page that is known, here or else at another node, for when the upstream cannot be asked.
func (n *Node) lastList(ctx context.Context, q transfer.Question, cause error) (transfer.Answer, error) {
	if !cannotAsk(cause) {
		return transfer.Answer{}, cause
	}
	kept, known := n.keptList(listKey(q))
	a := kept.answer(true)
	if !known {
		if a, known = newest(n.engine.AskMembers(ctx, q)); !known {
			return transfer.Answer{}, cause
		}
	}
	n.metrics.stale.Inc()
	return a, nil
}

func (n *Node) keptList(key string) (keptList, bool) {
	raw, _, err := n.store.Record(recordList, key)
	if err != nil {
		return keptList{}, false
	}
	var kept keptList
	return kept, json.Unmarshal(raw, &kept) == nil
}

func (k keptList) answer(stale bool) transfer.Answer {
	return transfer.Answer{
		Body: k.Body, Link: k.Link, Filtered: k.Filtered, Stale: stale, Size: int64(len(k.Body)), Age: age(k.At),
	}
}
