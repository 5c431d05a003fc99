package copies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/internal/peerid"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

const (
	// maxCompared is how many digests, maxSummaries how many partitions one message is about.
	maxCompared  = 4096
	maxSummaries = 1 << 16

	compareTimeout = 10 * time.Second

	// listedFor is after how many comparisons the digests of a partition are exchanged again although both sums stayed
	// the same: sets that change back and forth between two messages must not deceive for good.
	listedFor = 10
)

var errOtherRing = errors.New("the node goes by another ring")

// A finding is what a comparison with one node has shown.
type finding struct {
	own, theirs sum // of all partitions of both
	differ      map[int]*difference
}

// A difference is a partition of which the other node has not what this one has.
type difference struct {
	own, theirs sum
	listed      time.Time // when lacks was found
	lacks       map[oci.Digest]*lack
}

// A lack is a blob that a node should have and has not.
type lack struct {
	since time.Time
	next  time.Time // not tried again before
}

// compare finds what a node lacks of what this one has, in one small message when that is nothing. old is what the last
// comparison found, or nil.
func (k *Keeper) compare(ctx context.Context, p *plan, s *share, old *finding) (*finding, error) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	if old == nil {
		old = &finding{}
	}
	c := &comparison{k: k, plan: p, share: s, old: old, new: &finding{own: s.sum, differ: make(map[int]*difference)}}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("compare with %s: %w", s.node.ID, err)
	}
	return c.new, nil
}

type comparison struct {
	k        *Keeper
	plan     *plan
	share    *share
	old, new *finding
	client   copiespb.CopiesClient
}

func (c *comparison) run(ctx context.Context) (err error) {
	if c.client, err = c.k.client(c.share.node); err != nil {
		return err
	}
	r, err := c.ask(ctx, &copiespb.CompareRequest{All: c.share.sum.wire(0), Summaries: c.summaries(c.share.other)})
	if err != nil {
		return err
	}
	differ := c.differing(nil, r)
	c.new.theirs = sumOf(r.GetAll())
	switch {
	case c.new.theirs == c.share.sum:
	case c.old.own == c.new.own && c.old.theirs == c.new.theirs: // still as different as they were
		for _, at := range c.share.both {
			if d := c.old.differ[at]; d != nil {
				differ[at] = d.theirs
			}
		}
	default:
		for part := range slices.Chunk(c.share.both, maxSummaries) {
			if r, err = c.ask(ctx, &copiespb.CompareRequest{Summaries: c.summaries(part)}); err != nil {
				return err
			}
			differ = c.differing(differ, r)
		}
	}
	return c.list(ctx, differ)
}

func (c *comparison) ask(ctx context.Context, q *copiespb.CompareRequest) (*copiespb.CompareReply, error) {
	q.Node, q.RingHash = c.k.cfg.Node, c.plan.ring
	r, err := c.client.Compare(ctx, q)
	if err == nil && r.GetRingHash() != c.plan.ring {
		err = errOtherRing
	}
	return r, err
}

func (c *comparison) summaries(parts []int) []*copiespb.CompareRequest_Summary {
	out := make([]*copiespb.CompareRequest_Summary, 0, len(parts))
	for _, at := range parts {
		out = append(out, c.plan.parts[at].sum.wire(at))
	}
	return out
}

// differing adds the partitions that differ by a reply, with what the other node has of them.
func (c *comparison) differing(differ map[int]sum, r *copiespb.CompareReply) map[int]sum {
	if differ == nil {
		differ = make(map[int]sum)
	}
	for _, w := range r.GetTheirs() {
		if at := int(w.GetPartition()); c.plan.parts[at] != nil {
			differ[at] = sumOf(w)
		}
	}
	return differ
}

// list finds out which blobs the other node lacks of the partitions that differ.
func (c *comparison) list(ctx context.Context, differ map[int]sum) error {
	now := time.Now()
	var ask []blob
	for at, theirs := range differ {
		own, old := c.plan.parts[at].sum, c.old.differ[at]
		if old != nil && old.own == own && old.theirs == theirs && now.Sub(old.listed) < listedFor*c.k.cfg.CompareEvery {
			c.new.differ[at] = old
			continue
		}
		c.new.differ[at] = &difference{own: own, theirs: theirs, listed: now, lacks: make(map[oci.Digest]*lack)}
		ask = append(ask, c.plan.parts[at].blobs...)
	}
	for some := range slices.Chunk(ask, maxCompared) {
		if err := c.listSome(ctx, some, now); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) listSome(ctx context.Context, some []blob, now time.Time) error {
	q := &copiespb.CompareRequest{Digests: make([]string, len(some))}
	for i, b := range some {
		q.Digests[i] = b.digest.String()
	}
	r, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	have := make(map[string]bool, len(r.GetHave()))
	for _, text := range r.GetHave() {
		have[text] = true
	}
	for _, b := range some {
		if d := c.new.differ[c.k.parts.Farm.Partition(b.digest)]; d != nil && !have[b.digest.String()] {
			d.lacks[b.digest] = &lack{since: now}
		}
	}
	return nil
}

// goOn takes over since when blobs are lacking. The caller holds the lock that guards what is lacking.
func (f *finding) goOn(old *finding) {
	for at, d := range f.differ {
		before := old.differing()[at]
		if before == nil || before == d {
			continue
		}
		for digest := range d.lacks {
			if l := before.lacks[digest]; l != nil {
				d.lacks[digest] = l
			}
		}
	}
}

// Compare answers a node that compares. Nodes that go by different rings have nothing to compare.
func (s *server) Compare(ctx context.Context, q *copiespb.CompareRequest) (*copiespb.CompareReply, error) {
	if err := peerid.Check(ctx, q.GetNode()); err != nil {
		return nil, err
	}
	if len(q.GetDigests()) > maxCompared || len(q.GetSummaries()) > maxSummaries {
		return nil, status.Error(codes.InvalidArgument, "too much in one message")
	}
	k := s.k
	ring, _ := k.parts.Farm.Ring()
	p := k.back.plan.Load()
	switch {
	case p == nil || p.ring != ring: // it is just changing
		return &copiespb.CompareReply{}, nil
	case q.GetRingHash() != ring:
		return &copiespb.CompareReply{RingHash: ring}, nil
	}
	r := &copiespb.CompareReply{RingHash: ring, All: (sum{}).wire(0)}
	if with := p.shares[q.GetNode()]; with != nil {
		r.All = with.sum.wire(0)
	}
	for _, w := range q.GetSummaries() {
		own := sum{}
		if part := p.parts[int(w.GetPartition())]; part != nil {
			own = part.sum
		}
		if own != sumOf(w) {
			r.Differ = append(r.Differ, w.GetPartition())
			r.Theirs = append(r.Theirs, own.wire(int(w.GetPartition())))
		}
	}
	for _, text := range q.GetDigests() {
		d, err := oci.ParseDigest(text)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if k.hostsNow(d) {
			r.Have = append(r.Have, text)
		}
	}
	return r, nil
}

// hostsNow tells whether d is whole here and kept as hosted.
func (k *Keeper) hostsNow(d oci.Digest) bool {
	info, err := k.parts.Store.Stat(d)
	return err == nil && info.Hosted
}
