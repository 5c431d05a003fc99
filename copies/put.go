package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

const (
	// offerFrom is from what size on a node is asked whether it has a blob before it is sent: smaller ones cost less than
	// the question.
	offerFrom = 256 << 10

	// A node that is busy is asked again after so long.
	busyFirst, busyLast = 20 * time.Millisecond, time.Second
)

// Put has d, which is whole here, be kept by as many nodes as was promised, and returns when it is on their disks,
// synced, with the note beside it if there is one. A node that fails is replaced by the next one where d belongs. When
// fewer nodes are up than copies are wanted, those must do that are up; ErrTooFew: they are fewer than must. The copy
// here is hosted no longer when it was not among those wanted. Put may be repeated; two at once share the work.
func (k *Keeper) Put(ctx context.Context, d oci.Digest, note []byte) error {
	mine, err := k.puts.share(ctx, d, func(ctx context.Context) error { return k.put(ctx, d, note) })
	if err == nil && !mine && len(note) > 0 { // the other one went with its own note
		err = k.Note(ctx, d, note, false)
	}
	return wrap("push", d, err)
}

func (k *Keeper) put(ctx context.Context, d oci.Digest, note []byte) error {
	if !k.keptHere(d) {
		return oci.ErrNotFound
	}
	if err := k.addNote(d, note, false); err != nil {
		return err
	}
	uses := k.holds.uses(d)
	p := &pushing{k: k, digest: d, note: note, tried: make(map[string]bool), results: make(chan delivery)}
	err := p.run(ctx)
	k.follows.settled(d)
	if err != nil || p.here || p.good < k.cfg.Copies {
		return err
	}
	return k.holds.unless(d, uses, func() error { return k.parts.Store.SetHosted(d, false) })
}

// A pushing is one blob on its way to the nodes where it belongs.
type pushing struct {
	k       *Keeper
	digest  oci.Digest
	note    []byte
	tried   map[string]bool
	results chan delivery
	good    int  // nodes that have it
	here    bool // this one is among them
	errs    []error
}

type delivery struct {
	node Node
	err  error
}

// run delivers to as many nodes at once as copies are wanted, and to the next one for each that failed.
func (p *pushing) run(ctx context.Context) error {
	for running := 0; ; running-- {
		for p.good+running < p.k.cfg.Copies && ctx.Err() == nil {
			n, ok := p.next()
			if !ok {
				break
			}
			running++
			go func() { p.results <- delivery{n, p.k.deliver(ctx, n, p.digest, p.note)} }()
		}
		if running == 0 {
			break
		}
		p.ended(ctx, <-p.results)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if least := p.k.least(); p.good < least {
		return errors.Join(append([]error{fmt.Errorf("%w: %d of %d", ErrTooFew, p.good, least)}, p.errs...)...)
	}
	return nil
}

// next is the best place that was not tried yet.
func (p *pushing) next() (Node, bool) {
	for _, n := range p.k.parts.Farm.Places(p.digest, p.k.cfg.Copies+len(p.tried), true) {
		if !p.tried[n.ID] {
			p.tried[n.ID] = true
			return n, true
		}
	}
	return Node{}, false
}

// ended counts a delivery that has ended.
func (p *pushing) ended(ctx context.Context, r delivery) {
	if r.err == nil {
		p.good++
		p.here = p.here || r.node.ID == p.k.cfg.Node
		return
	}
	p.errs = append(p.errs, r.err)
	if ctx.Err() != nil {
		return
	}
	p.k.count.failed.Add(1)
	p.k.log.LogAttrs(ctx, slog.LevelWarn, "copy not made", slog.String("digest", p.digest.String()),
		slog.String("peer", r.node.ID), slog.Any("error", r.err))
}

// deliver sees to it that a node has d on its disk, with the note.
func (k *Keeper) deliver(ctx context.Context, to Node, d oci.Digest, note []byte) error {
	if to.ID == k.cfg.Node {
		return nil // Put has seen to it
	}
	info, err := k.parts.Store.Stat(d)
	if err != nil {
		return err
	}
	along, err := k.alongTo(ctx, d, to)
	if err != nil {
		return err
	}
	if along {
		k.copied(info.Size)
		return k.noteOn(ctx, to, d, note, false)
	}
	patience := time.Now().Add(2 * k.cfg.Commit) // then another node may be less busy
	for wait, ask := busyFirst, info.Size >= offerFrom; ; wait, ask = min(2*wait, busyLast), true {
		if ask {
			has, err := k.offer(ctx, to, d)
			if err != nil {
				return err
			}
			if has {
				return k.noteOn(ctx, to, d, note, false)
			}
		}
		st, err := k.push(ctx, to, d, false, nil)
		switch {
		case err != nil:
			return err
		case st == copiespb.StoreReply_STATUS_STORED:
			k.copied(info.Size)
			return nil
		case st == copiespb.StoreReply_STATUS_HAD:
			return nil
		case st != copiespb.StoreReply_STATUS_BUSY || time.Now().After(patience):
			return fmt.Errorf("%s says %s", to.ID, st)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (k *Keeper) copied(size int64) {
	k.count.copied.Add(1)
	k.count.copiedBytes.Add(size)
}

// offer asks a node whether it has d, and has it keep it then.
func (k *Keeper) offer(ctx context.Context, to Node, d oci.Digest) (bool, error) {
	client, err := k.client(to)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Stall)
	defer cancel()
	reply, err := client.Offer(ctx, &copiespb.OfferRequest{Digests: []string{d.String()}})
	if err != nil {
		return false, fmt.Errorf("offer %s to %s: %w", d, to.ID, err)
	}
	return len(reply.GetHave()) == 1 && reply.GetHave()[0] == d.String(), nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
