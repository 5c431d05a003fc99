// Package swarm decides which piece of a blob goes from whom to whom, and when.
//
// It is pure logic: no clock, no network, no goroutine. A driver tells it what
// happened (a peer came, a piece arrived, a peer said busy) and asks what to do
// next; transfer drives it over gRPC, p2psim drives the same code with thousands
// of simulated hosts. Its parts:
//
//   - Fetcher is one node's view of one swarm: which piece to ask of which
//     neighbour now, what to ask twice, what to tell the neighbours.
//   - Uploads shares a node's upload slots of one swarm between those who ask.
//   - Seeder is how a source of pieces that nobody else has hands each of them
//     out once, to different peers, before any of them leaves a second time.
//   - Register is the owner's list of who takes part: it introduces neighbours to
//     each other, names the importer of each zone and knows which pieces are lost.
//
// The central idea: the rarest piece first, kept as buckets that change by one
// step, and a 64-bit mask of holders for each piece, so that a decision costs a
// few dozen machine words even with thousands of pieces.
//
// Time comes in as a Duration since any instant that the driver has chosen and
// that stays the same; it must not go backwards. Random choices come from the
// generator that the driver passes, so a run can be replayed. No type here may be
// used by two goroutines at once.
package swarm

// A Peer is the driver's handle for another node. It means the same node in all
// parts of one swarm for as long as the swarm lives and is not negative.
type Peer int32

// none stands for no peer.
const none Peer = -1
