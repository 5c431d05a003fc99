package upstream

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Requests counts requests as they were sent, retries and the hops of redirects included.
type Requests struct {
	Ping, Token, ManifestHead, Manifest, BlobHead, Blob, Tags, Referrers int64
}

// Total is the sum of all kinds.
func (r Requests) Total() int64 {
	return r.Ping + r.Token + r.ManifestHead + r.Manifest + r.BlobHead + r.Blob + r.Tags + r.Referrers
}

// A RateLimit is what the upstream last said about its pull limit.
type RateLimit struct {
	Limit, Remaining int64         // -1: not said
	Window           time.Duration // that Limit is for; 0: not said
	Source           string        // whom the upstream counts: an address or an account's id
	At               time.Time     // when it was said; zero: never
}

// Stats are one upstream's counters since its Client was made.
type Stats struct {
	Bytes           int64 // bytes of all answers' bodies that were read
	Requests        Requests
	Failures        int64 // calls and bodies that ended in an oci.ErrUnavailable
	Retries         int64 // requests made again after a transient failure
	Redirects       int64 // redirects followed
	Resumes         int64 // times that a Stream went on after a cut
	Reread          int64 // bytes that an upstream without ranges sent again
	TooManyRequests int64 // answers with 429
	RateLimit       RateLimit
	Open            bool // the registry's circuit breaker is open
}

type kind int

const (
	kindPing kind = iota
	kindToken
	kindManifestHead
	kindManifest
	kindBlobHead
	kindBlob
	kindTags
	kindReferrers
	kinds
)

type counters struct {
	requests                                                              [kinds]atomic.Int64
	bytes, failures, retries, redirects, resumes, reread, tooManyRequests atomic.Int64

	mu        sync.Mutex
	rateLimit RateLimit
}

// Stats is a copy of the counters.
func (c *Client) Stats() Stats {
	n := &c.counters
	s := Stats{
		Bytes: n.bytes.Load(), Failures: n.failures.Load(), Retries: n.retries.Load(), Redirects: n.redirects.Load(),
		Resumes: n.resumes.Load(), Reread: n.reread.Load(), TooManyRequests: n.tooManyRequests.Load(), Open: c.breakerOf(c.base).open(),
		Requests: Requests{
			Ping: n.requests[kindPing].Load(), Token: n.requests[kindToken].Load(),
			ManifestHead: n.requests[kindManifestHead].Load(), Manifest: n.requests[kindManifest].Load(),
			BlobHead: n.requests[kindBlobHead].Load(), Blob: n.requests[kindBlob].Load(),
			Tags: n.requests[kindTags].Load(), Referrers: n.requests[kindReferrers].Load(),
		},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.RateLimit = n.rateLimit
	return s
}

// maxSourceBytes bounds what is kept of a rate limit's source; Docker Hub sends an address or a UUID.
const maxSourceBytes = 64

// noteRateLimit keeps the rate-limit headers of an answer of the registry, if it has any.
func (n *counters) noteRateLimit(h http.Header) {
	limit, window, ok1 := parseRateLimit(h.Get("Ratelimit-Limit"))
	remaining, window2, ok2 := parseRateLimit(h.Get("Ratelimit-Remaining"))
	if !ok1 && !ok2 {
		return
	}
	if !ok1 {
		limit, window = -1, window2
	}
	if !ok2 {
		remaining = -1
	}
	source := h.Get("Docker-Ratelimit-Source")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rateLimit = RateLimit{limit, remaining, window, source[:min(len(source), maxSourceBytes)], time.Now()}
}
