// Package registryapi is the door to container engines: the pull half of the OCI distribution specification 1.1 with
// the parts that Docker adds, as an http.Handler over a Registry that the caller hands in.
//
// Its central idea is that a mirror which hangs is worse than one which is down, since no client falls back from a
// request that never ends. So every request has a status on the wire within Config.FirstByteTimeout, a body that gets
// no further for Config.StallTimeout ends by closing the connection, and a client that takes nothing for
// Config.ClientTimeout is let go. A response whose blob failed is never completed and nothing is ever appended to it.
// What the farm cannot serve right (Docker schema 1, lists that cannot be paged) is answered 404, and what it cannot
// serve now 503, both without a Retry-After that clients would sit out: they go to the upstream at once. There is never
// an authentication challenge, because dockerd would answer it with the user's password for Docker Hub.
//
// Bytes are passed on as they are: no compression, no conversion between manifest types whatever the client accepts,
// as the registries themselves do. Where the blob is a plain file, the kernel sends it (see Blob).
//
// Who fetches what from where, and who may read it, is left to the Registry; listeners and TLS to the caller of
// NewServer. A Handler may be used by any number of goroutines.
package registryapi
