package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// maxTags bounds the tags whose digest a node has at hand.
const maxTags = 20_000

// A tagKey names what a tag means to clients that accept the same media types.
type tagKey struct {
	repo  oci.Repository
	tag   string
	class int // which of oci.ManifestTypes the client accepts, one bit each
}

func (k tagKey) String() string {
	return k.repo.String() + ":" + k.tag + "\x00" + strconv.Itoa(k.class)
}

// question is how the tag's owner is asked.
func (k tagKey) question() transfer.Question {
	return transfer.Question{
		Kind: transfer.Resolve, Repository: k.repo, Reference: k.tag, Accept: acceptTypes(k.class),
	}
}

// A resolved is the descriptor that a tag named when the upstream was asked last. Without a digest it says that there was
// no such tag any more.
type resolved struct {
	Descriptor oci.Descriptor `json:"descriptor"`
	At         time.Time      `json:"at"`    // when the upstream said so
	Until      time.Time      `json:"until"` // it is taken for true without asking until then
	stale      bool
}

func (r resolved) gone() bool { return r.Descriptor.Digest.IsZero() }

func (r resolved) answer() transfer.Answer {
	return transfer.Answer{
		Digest: r.Descriptor.Digest, MediaType: r.Descriptor.MediaType, Size: r.Descriptor.Size,
		Stale: r.stale, Fresh: max(0, time.Until(r.Until)), Age: age(r.At),
	}
}

// resolvedOf is what a peer answered at a time of this node's clock.
func resolvedOf(a transfer.Answer, now time.Time) resolved {
	return resolved{
		Descriptor: oci.Descriptor{MediaType: a.MediaType, Digest: a.Digest, Size: a.Size},
		At:         now.Add(-a.Age), Until: now.Add(a.Fresh), stale: a.Stale,
	}
}

// acceptClass sorts Accept headers: clients of one class get the same answer. A client that names none of the types
// takes all.
func acceptClass(accept []string) int {
	all := 1<<len(oci.ManifestTypes()) - 1
	class := 0
	for i, t := range oci.ManifestTypes() {
		if slices.Contains(accept, t) {
			class |= 1 << i
		}
	}
	if class == 0 || slices.Contains(accept, "*/*") {
		return all
	}
	return class
}

// acceptTypes are the media types of a class.
func acceptTypes(class int) []string {
	var types []string
	for i, t := range oci.ManifestTypes() {
		if class>>i&1 == 1 {
			types = append(types, t)
		}
	}
	return types
}

// resolve finds the digest of a tag: at hand, from the owner of the tag's name, which asks the upstream once for the
// whole farm, or, when that cannot be asked, the last that is known.
func (n *Node) resolve(ctx context.Context, repo oci.Repository, tag string, accept []string) (resolved, error) {
	key := tagKey{repo, tag, acceptClass(accept)}
	if r, ok := n.tags.GetIfPresent(key); ok && time.Now().Before(r.Until) {
		return r, nil
	}
	v, err := n.flights.do(ctx, "resolve "+key.String(), func(ctx context.Context) (any, error) {
		return n.resolveAnew(ctx, key)
	})
	if err != nil {
		return resolved{}, err
	}
	return v.(resolved), nil
}

func (n *Node) resolveAnew(ctx context.Context, key tagKey) (resolved, error) {
	if err := n.awaitFarm(ctx); err != nil {
		return resolved{}, err
	}
	mine := false
	a, err := n.ask(ctx, key.repo.String()+":"+key.tag, key.question(), func(ctx context.Context) (transfer.Answer, error) {
		r, err := n.resolveHere(ctx, key)
		mine = err == nil
		return r.answer(), err
	})
	if err != nil {
		return n.lastKnown(key, err)
	}
	r := resolvedOf(a, time.Now())
	if !mine {
		n.remember(key, r)
	}
	return r, nil
}

// resolveHere asks the upstream for a tag that this node owns, unless it has done so within tag_ttl.
func (n *Node) resolveHere(ctx context.Context, key tagKey) (resolved, error) {
	v, err := n.flights.do(ctx, "upstream "+key.String(), func(ctx context.Context) (any, error) {
		if r, ok := n.recall(key); ok && time.Now().Before(r.Until) {
			return r, nil
		}
		var d oci.Descriptor
		var raw []byte
		err := n.upstreams.ask(ctx, key.repo, func(c *upstream.Client) (err error) {
			d, raw, err = c.Resolve(ctx, key.repo.Path, key.tag, acceptTypes(key.class))
			return err
		})
		if err != nil {
			n.learnLastKnown(ctx, key, err)
			return n.lastKnown(key, err)
		}
		if raw != nil {
			n.keepManifest(key.repo, d.Digest, d.MediaType, raw)
		}
		n.links.note(key.repo, d.Digest, d.Size)
		now := time.Now()
		r := resolved{Descriptor: d, At: now, Until: now.Add(n.cfg.Upstreams[key.repo.Upstream].TagTTL)}
		n.remember(key, r)
		return r, nil
	})
	if err != nil {
		return resolved{}, err
	}
	return v.(resolved), nil
}

// lastKnown is what a tag meant when the upstream was asked last, for when it cannot be asked now. Being told that the
// tag does not exist is an answer and no reason to serve an old one, now or later.
func (n *Node) lastKnown(key tagKey, cause error) (resolved, error) {
	r, ok := n.recall(key)
	if !cannotAsk(cause) {
		if errors.Is(cause, oci.ErrNotFound) {
			n.forget(key, ok && !r.gone())
		}
		return resolved{}, cause
	}
	if !ok || r.gone() {
		return resolved{}, cause
	}
	n.metrics.stale.Inc()
	n.log.Warn("serving the last known digest of a tag", slog.String("repository", key.repo.String()),
		slog.String("tag", key.tag), slog.Any("error", cause))
	r.stale, r.Until = true, time.Now().Add(staleRetry)
	n.tags.Set(key, r)
	return r, nil
}

// learnLastKnown asks the other nodes what the upstream said last about a tag, once it cannot be asked: one may have
// heard of it later than this node, which may have become the owner of the tag's name since. An answer that was given
// as stale before was the newest then.
func (n *Node) learnLastKnown(ctx context.Context, key tagKey, cause error) {
	mine, ok := n.recall(key)
	if !cannotAsk(cause) || ok && mine.stale {
		return
	}
	asked := time.Now() // so that the way of the answer makes it look older, and never newer than what this node knows
	a, found := newest(n.engine.AskMembers(ctx, key.question()))
	if !found {
		return
	}
	if r := resolvedOf(a, asked); !ok || r.At.After(mine.At) {
		r.Until, r.stale = time.Time{}, false
		n.remember(key, r)
	}
}

// staleRetry is how long a stale answer is given before the upstream is asked again.
const staleRetry = 2 * time.Second

// tagTTL is how long what the upstream of a repository says of a tag is taken for true.
func (n *Node) tagTTL(repo oci.Repository) time.Duration {
	return n.cfg.Upstreams[repo.Upstream].TagTTL
}

// recordTag is the kind under which the store keeps tags.
const recordTag = "tag"

// remember keeps what a tag means, at hand and across a restart.
func (n *Node) remember(key tagKey, r resolved) {
	n.tags.Set(key, r)
	if r.stale {
		return
	}
	raw, err := json.Marshal(r)
	if err == nil {
		err = n.store.PutRecord(recordTag, key.String(), raw, time.Time{})
	}
	if err != nil {
		n.log.Warn("tag not kept", slog.Any("error", err))
	}
}

// forget remembers that a tag is gone; across a restart only if it was known, or any name that a client makes up would
// take the place of one that exists.
func (n *Node) forget(key tagKey, known bool) {
	r := resolved{At: time.Now()}
	if known {
		n.remember(key, r)
		return
	}
	n.tags.Set(key, r)
}

// recall is what was remembered last, however old.
func (n *Node) recall(key tagKey) (resolved, bool) {
	if r, ok := n.tags.GetIfPresent(key); ok {
		return r, true
	}
	raw, _, err := n.store.Record(recordTag, key.String())
	if err != nil {
		return resolved{}, false
	}
	var r resolved
	if err := json.Unmarshal(raw, &r); err != nil {
		return resolved{}, false
	}
	return r, true
}

func newTags() *otter.Cache[tagKey, resolved] {
	return otter.Must(&otter.Options[tagKey, resolved]{MaximumSize: maxTags})
}

// answerResolve answers a peer that takes this node for the owner of a tag's name.
func (n *Node) answerResolve(ctx context.Context, q transfer.Question) (transfer.Answer, error) {
	if err := oci.CheckTag(q.Reference); err != nil {
		return transfer.Answer{}, fmt.Errorf("%w: %w", oci.ErrNotFound, err)
	}
	key := tagKey{q.Repository, q.Reference, acceptClass(q.Accept)}
	r, ok := n.tags.GetIfPresent(key)
	if !ok || time.Now().After(r.Until) {
		var err error
		if r, err = n.resolveHere(ctx, key); err != nil {
			return transfer.Answer{}, err
		}
	}
	return r.answer(), nil
}
