package swarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pullonce/pullonce/swarm"
)

// BenchmarkNext measures one decision and its answer in the middle of a fetch: a piece
// arrives, two neighbours tell what they have, the next piece is chosen.
func BenchmarkNext(b *testing.B) {
	for _, pieces := range []int{1024, 8192} {
		b.Run(fmt.Sprintf("pieces=%d/peers=32", pieces), func(b *testing.B) {
			const peers = 32
			rng := seeded(1)
			cfg := swarm.Default(pieces)
			f := swarm.NewFetcher(cfg, nil, rng)
			f.SetKnown(pieces)
			for p := range swarm.Peer(peers) {
				have := bitmap(pieces)
				for i := range pieces {
					if rng.IntN(3) == 0 {
						have.Set(i)
					}
				}
				f.AddPeer(p, swarm.PeerInfo{}, have)
			}
			now := time.Duration(0)
			open := append([]swarm.Request(nil), f.Next(now, 8)...)
			b.ReportAllocs()
			for b.Loop() {
				now += time.Millisecond
				r := open[0]
				open = append(open[:0], open[1:]...)
				f.Received(r.Peer, r.Piece, now)
				if f.Count() > pieces/2 { // stay in the middle
					for i := range pieces / 4 {
						f.Drop(i * 4)
					}
				}
				open = append(open, f.Next(now, 8)...)
				f.Haves(now)
			}
		})
	}
}
