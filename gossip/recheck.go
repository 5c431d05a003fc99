package gossip

import (
	"context"
	"log/slog"
)

// Recheck asks Config.Refuse about all members anew: one that is refused now is none from here on, also in the ring, and
// nothing is sent to it any more; one that was and is not, and is still there, is a member again.
func (g *Gossip) Recheck() {
	dropped := g.table.drop(g.refuses)
	for _, m := range dropped {
		g.log.LogAttrs(context.Background(), slog.LevelWarn, "member refused",
			slog.String("member", m.ID), slog.String("address", m.GossipAddr))
	}
	if len(dropped) > 0 {
		g.agreement.forget(func(id string) bool { _, ok := g.table.member(id); return ok })
		g.touch()
	}
	g.takeBack()
}

// takeBack notes members that the library knows and that were dropped here.
func (g *Gossip) takeBack() {
	list := g.list.Load()
	if list == nil {
		return
	}
	for _, n := range list.Members() {
		if _, known := g.table.member(n.Name); !known && !g.refuses(n.Name) {
			delegate{g}.heard(n)
		}
	}
}
