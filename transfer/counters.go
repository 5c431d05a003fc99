package transfer

import "sync/atomic"

// counters are the engine's running totals.
type counters struct {
	upstreamBytes, sentBytes, receivedBytes      atomic.Int64
	piecesSent, piecesReceived, pushes, busy     atomic.Int64
	duplicates, mismatches, takeovers, fallbacks atomic.Int64
	condemned, lost, crossZone, yields           atomic.Int64
}

// Stats are totals since the start of the node, but for Swarms.
type Stats struct {
	UpstreamBytes  int64 // received from upstreams
	SentBytes      int64 // pieces sent to peers
	ReceivedBytes  int64 // pieces received from peers
	CrossZoneBytes int64 // of these, from peers in other zones
	PiecesSent     int64
	PiecesReceived int64
	Pushes         int64 // of the pieces sent, those that no peer asked for
	Busy           int64 // requests of peers that were put off
	Duplicates     int64 // pieces that arrived twice
	Mismatches     int64 // pieces that did not match their list
	Takeovers      int64 // fetches that this node took over from a lost owner
	Fallbacks      int64 // fetches from the upstream because no owner could be asked
	Condemned      int64 // piece lists whose chain did not close
	Lost           int64 // times that a node could not be reached
	Yields         int64 // fetches that joined the swarm of another node because that has the blob's lease
	Strangers      int64 // connections that were refused because what they brought is no peer's
	Swarms         int   // swarms that this node takes part in now
	Fetching       int   // of these, blobs that are not complete here
}

// Stats is a snapshot of the engine's totals.
func (e *Engine) Stats() Stats {
	c := &e.counters
	s := Stats{
		UpstreamBytes: c.upstreamBytes.Load(), SentBytes: c.sentBytes.Load(), ReceivedBytes: c.receivedBytes.Load(),
		CrossZoneBytes: c.crossZone.Load(),
		PiecesSent:     c.piecesSent.Load(), PiecesReceived: c.piecesReceived.Load(), Pushes: c.pushes.Load(),
		Busy: c.busy.Load(), Duplicates: c.duplicates.Load(), Mismatches: c.mismatches.Load(),
		Takeovers: c.takeovers.Load(), Fallbacks: c.fallbacks.Load(),
		Condemned: c.condemned.Load(), Lost: c.lost.Load(), Yields: c.yields.Load(), Strangers: e.strangers.count.Load(),
	}
	for _, t := range e.all() {
		s.Swarms++
		if !t.isComplete() {
			s.Fetching++
		}
	}
	return s
}
