package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// maxDropped bounds how many bindings are dropped, or dated, in one go.
const maxDropped = 256

// dropOld takes away which key is whose of nodes that are gone for good, so that a farm whose nodes come and go does not
// collect them, and returns the rest. Gone is who is no member now and whose certificates ran out longer ago than Lifetime
// and Grace: it could not renew any more even if it got one beside the catalog, which was not told. Its id is free then for
// who has a token. Entries that do not say when certificates run out are from before that was kept: they are dated now.
func (t *Trust) dropOld(ctx context.Context, p *Parts, entries []Entry) (left []Entry, err error) {
	before := time.Now().Add(-t.cfg.Lifetime - t.cfg.Grace)
	members := p.Farm.Members()
	changed, dropped := 0, 0
	for _, e := range entries {
		left = append(left, e)
		id := strings.TrimPrefix(e.Key, nodesKey)
		r, parseErr := parseRecord(e.Value, checkNodeRecord)
		old := parseErr == nil && (r.GetEnds() == 0 || time.Unix(0, r.GetEnds()).Before(before))
		if !old || changed >= maxDropped || slices.ContainsFunc(members, func(m Peer) bool { return m.ID == id }) {
			continue
		}
		gone := r.GetEnds() != 0
		switch err := t.dropOrDate(ctx, p, e, r); {
		case errors.Is(err, ErrChanged): // it has renewed, or another voter was faster
			continue
		case err != nil:
			return nil, fmt.Errorf("drop which key was that of %s: %w", id, err)
		}
		if changed++; gone {
			dropped++
			left = left[:len(left)-1]
		}
	}
	if dropped > 0 {
		t.log.LogAttrs(ctx, slog.LevelInfo, "keys of nodes that are gone for good were dropped", slog.Int("nodes", dropped))
	}
	return left, nil
}

func (t *Trust) dropOrDate(ctx context.Context, p *Parts, e Entry, r *trustpb.NodeRecord) error {
	if r.GetEnds() == 0 {
		r.Ends = t.nextEnd().UnixNano()
		return putNode(ctx, p.Ledger, strings.TrimPrefix(e.Key, nodesKey), r, e.Index)
	}
	_, err := p.Ledger.Swap(ctx, e.Key, nil, e.Index)
	return err
}
