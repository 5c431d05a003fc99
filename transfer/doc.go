// Package transfer moves blobs between the nodes of a farm, and from the upstream into it.
//
// A node that wants a blob asks its Engine for it. The blob's owner on the ring is the meeting point of its swarm: it
// alone reads the upstream, issues the piece list, introduces the nodes to each other and seeds every piece once. From
// then on the nodes exchange checked pieces as package swarm decides; this room gives swarm its clock, its network and
// its disk. When the owner is lost its successor takes over and reads from the upstream only what no live node has.
//
// What the pull path means by a pull (names, tags, rights) is left to node. An Engine may be used by goroutines at
// once.
package transfer
