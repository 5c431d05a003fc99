// Package registryapi is the door to container engines: the OCI distribution specification 1.1 with the parts that Docker
// adds, as an http.Handler over a Registry for pulls and, where the farm keeps content of its own, a Hosting for pushes.
//
// Its central idea is that a mirror which hangs is worse than one which is down, since no client falls back from a
// request that never ends. So every request has a status on the wire within Config.FirstByteTimeout, a body that gets
// no further for Config.StallTimeout ends by closing the connection, and a client that takes nothing for
// Config.ClientTimeout is let go. A response whose blob failed is never completed and nothing is ever appended to it.
// What the farm cannot serve right (Docker schema 1, lists that cannot be paged) is answered 404, and what it cannot
// serve now 503, both without a Retry-After that clients would sit out: they go to the upstream at once. There is never
// a challenge for a password, because dockerd would answer it with the user's for Docker Hub; but by the farm's own name,
// by which it is no mirror.
//
// Only names under the Hosting's prefix can be pushed, so that no push shadows an upstream's image. A client that sends
// is waited for as long as it gets on: one that is silent, or below Config.SlowestUpload for minutes, is cut off and
// can go on later. Here a Retry-After is right, since a push has nowhere else to go. A manifest's size, depth and number
// of values are bounded before it is parsed, and its digest and media type are checked before the Hosting sees it.
//
// Bytes are passed on as they are: no compression, no conversion between manifest types whatever the client accepts,
// as the registries themselves do. Where the blob is a plain file, the kernel sends it (see Blob).
//
// Who fetches what from where, who may read it, and how what is pushed is kept is left to the Registry, the Access and
// the Hosting, whose calls find who asks by access.CallerOf; listeners to the caller of NewServer. A Handler may be used by any number of goroutines.
package registryapi
