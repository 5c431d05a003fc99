// Package gossip tells a node who else is in the farm.
//
// It wraps hashicorp/memberlist. Nodes find each other through a list of seeds,
// which they go on asking for as long as none answers: a node that gets no answer
// is a farm of one, and joins the others when it finds them. A farm that was split
// grows together again in the same way.
//
// The ring is calmer than gossip, and the difference is kept here
// ([Gossip.RingMembers]): a member has its place in the ring from the moment it is
// active until it drains, leaves, or has been gone for [Config.HoldDown]. A
// restart, a lost packet or a stopped process moves nothing. What a node knows of
// members that are gone travels with every full exchange, so that one that has
// just joined has the same ring as all others; ring hashes travel with it and show
// those that do not ([Gossip.Disagreements]).
//
// With keys all of it is sealed ([Config.Keys]), and what no key of the farm opens is
// turned away before the library, or any parser, has seen it. The same TCP port has a
// door for TLS connections ([Config.Door]), by which those come who have no key yet.
// What strangers can cost is bounded: connections by number, address and time.
//
// What to do when a member is silent, and whether one can be reached at all, is
// left to transfer, which finds out sooner than gossip. A Gossip may be shared by
// goroutines.
package gossip
