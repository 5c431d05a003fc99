// Package access says who may read, write and delete what at a registry door, as far as that can be said without asking
// anybody: it holds the caller of a request, patterns of repositories, what an upstream has said of a caller, and the
// users and rights of the farm's own repositories.
//
// Its central idea is that a credential is never kept: what is remembered of one is filed under a keyed hash whose key
// lives as long as the process, in tables that are bounded by count and time. Whom to ask about what is not known here is
// left to node, and how an answer looks on the wire to the doors.
//
// All types may be shared by goroutines.
package access
