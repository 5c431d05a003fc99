// Package upstream is the client of one upstream registry: it asks for manifests, tags, referrers and blobs, and
// streams what comes back.
//
// Its central idea is that every request has an end: headers within a first-byte deadline that covers connecting,
// tokens, redirects and retries together, and then a byte within a stall deadline, so that whoever waits for this
// client can answer its own client in time. A blob is never held in memory; its bytes go from the socket into the
// buffer of whoever reads them.
//
// It is asked in somebody's name: the farm's, whose credentials follow from the repository, nobody's, or a client's who
// brought credentials of its own. What one identity was given, tokens and signed URLs, no other may use.
//
// It hands out a blob's bytes unchecked (transfer hashes them as they arrive) and leaves caching of tags and manifests,
// the choice of who fetches, and the rights of clients to others. Manifests are checked against their digest here,
// since they are read whole.
//
// A Client may be used by any number of goroutines at once; a Body or Stream by one at a time.
package upstream
