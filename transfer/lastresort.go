package transfer

import (
	"context"
	"log/slog"
)

// alone goes to the upstream, by the rules of a node that can reach no other one, after no meeting point could serve.
func (t *task) alone(ctx context.Context) error {
	lost := t.e.others()
	err := t.own(ctx, lost)
	named := asRedirect(err)
	if named == nil {
		return err
	}
	// Who was named says so now, and had perhaps not begun when it was asked before.
	if err := t.join(ctx, named.node, lost); t.isComplete() {
		return nil
	} else if ctx.Err() != nil {
		return context.Cause(ctx)
	} else if err != nil {
		t.log.Info("nor did the node that was named last serve the blob", slog.String("peer", named.node), slog.Any("error", err))
	}
	leave, err := t.e.mayGoAlone(ctx, t.digest, lost) // who was named now, too, has not served before
	if err != nil {
		return err
	}
	defer leave()
	return t.readUpstream(ctx, lost)
}

// meetsAt is where this node is to register: with the blob's owner, or, in another zone than the owner's, with the owner
// of the blob on its own zone's ring, which alone fetches across. "" is this node itself.
func (t *task) meetsAt(lost []string) string {
	view, me := t.e.directory.View(), t.e.cfg.Self
	owner := view.OwnerWithout(t.digest, lost...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.imports = false
	if m, ok := view.Member(owner); !ok || m.Zone == me.Zone {
		return owner
	}
	importer := view.ZoneOwnerWithout(t.digest, me.Zone, lost...)
	if importer == "" || importer == me.ID {
		t.imports = true
		return owner
	}
	return importer
}
