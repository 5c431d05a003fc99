// Package catalog keeps the farm's small shared state: hosted tags and manifests, which repository links which blob,
// pins, leases and settings. It is one log of commands that raft orders and copies, and a state machine that every
// voter runs over it, so that a tag has one answer for the whole farm.
//
// The state lies in copy-on-write trees. A command makes a new state that shares nearly all of the old one, so that
// whoever reads, and whoever writes a snapshot to disk, works on a state that no longer changes and holds nobody up.
// The state machine is a function of the log alone: the leader stamps its clock into each command, and nothing here
// reads one while a command is applied.
//
// Bytes of blobs and manifests are not kept here, only their names; that a blob is on enough disks before it is
// linked is the business of node. The package knows no ring and no gossip; it asks for members and streams through
// interfaces that node hands in.
//
// A Catalog may be shared by goroutines. So may a View, which never changes.
package catalog
