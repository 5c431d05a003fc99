package hub

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
)

// Stats is what a Hub has counted since it started or was reset.
type Stats struct {
	// SocketBytes is everything written to clients' sockets: headers, bodies and TLS records,
	// of all endpoints but the admin API; Sockets splits it by registry, auth and cdn.
	SocketBytes int64            `json:"socket_bytes"`
	Sockets     map[string]int64 `json:"sockets"`
	// SocketBytesRead is everything that clients wrote.
	SocketBytesRead int64 `json:"socket_bytes_read"`
	// Connections is the number of connections accepted.
	Connections int64 `json:"connections"`
	// BlobBytes is the sum of all blob bodies written.
	BlobBytes int64 `json:"blob_bytes"`
	// Blobs is by digest.
	Blobs map[string]BlobStats `json:"blobs"`
	// Manifests is by reference, such as "library/app:1" or "library/app@sha256:…".
	Manifests map[string]ManifestStats `json:"manifests"`
	// ByUser is by name; "" is who is anonymous.
	ByUser map[string]UserStats `json:"by_user"`
	// ManifestGets is what a pull limit counts; HEADs are free.
	ManifestGets  int64 `json:"manifest_gets"`
	ManifestHeads int64 `json:"manifest_heads"`
	Redirects     int64 `json:"redirects"`
	TokenRequests int64 `json:"token_requests"`
	Pings         int64 `json:"pings"`
	TagLists      int64 `json:"tag_lists"`
	Referrers     int64 `json:"referrers"`
	// Challenges is the number of 401 answers of the registry.
	Challenges int64 `json:"challenges"`
	// RateLimited is the number of 429 answers because of the pull limit.
	RateLimited int64 `json:"rate_limited"`
	// Faulted is the number of requests and connections that a fault was applied to.
	Faulted int64 `json:"faulted"`
}

// BlobStats counts the requests for one blob at the place that its bytes come from. Ranged GETs
// count in Gets too.
type BlobStats struct {
	Gets   int64 `json:"gets"`
	Heads  int64 `json:"heads"`
	Ranges int64 `json:"ranges"`
	Bytes  int64 `json:"bytes"`
}

// ManifestStats counts the requests for one tag or manifest.
type ManifestStats struct {
	Gets  int64 `json:"gets"`
	Heads int64 `json:"heads"`
}

// UserStats counts what was asked in one user's name.
type UserStats struct {
	Requests int64 `json:"requests"` // of the registry that were let in, the CDN not counted
	Tokens   int64 `json:"tokens"`   // requests for tokens, those with a wrong password too
}

// counters holds what Stats shows. The byte counts that move with every write are atomics.
type counters struct {
	connections atomic.Int64
	read        atomic.Int64
	written     [endpoints]atomic.Int64
	blobBytes   atomic.Int64

	mu sync.Mutex
	s  Stats
}

func newCounters() *counters {
	c := &counters{}
	c.reset()
	return c
}

func (c *counters) reset() {
	c.connections.Store(0)
	c.read.Store(0)
	c.blobBytes.Store(0)
	for i := range c.written {
		c.written[i].Store(0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s = Stats{Blobs: map[string]BlobStats{}, Manifests: map[string]ManifestStats{}, ByUser: map[string]UserStats{}}
}

// change applies f to the counters that are not atomics.
func (c *counters) change(f func(s *Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.s)
}

// byUser applies f to a user's counters.
func (c *counters) byUser(user string, f func(u *UserStats)) {
	c.change(func(s *Stats) {
		u := s.ByUser[user]
		f(&u)
		s.ByUser[user] = u
	})
}

// arrived counts a request that was let in.
func (c *counters) arrived(q request, r *http.Request) {
	c.change(func(s *Stats) {
		switch q.kind {
		case Manifest:
			c.manifest(s, q)
		case Blob:
			b := s.Blobs[q.ref]
			switch {
			case q.method == http.MethodHead:
				b.Heads++
			case q.method == http.MethodGet:
				b.Gets++
				if r.Header.Get("Range") != "" {
					b.Ranges++
				}
			}
			s.Blobs[q.ref] = b
		case Redirect:
			s.Redirects++
		case Token:
			s.TokenRequests++
		case Ping:
			s.Pings++
		case Tags:
			s.TagLists++
		case Referrers:
			s.Referrers++
		}
	})
}

func (c *counters) manifest(s *Stats, q request) {
	m := s.Manifests[q.reference()]
	switch q.method {
	case http.MethodGet:
		m.Gets++
		s.ManifestGets++
	case http.MethodHead:
		m.Heads++
		s.ManifestHeads++
	default:
		return
	}
	s.Manifests[q.reference()] = m
}

// blobWritten counts n bytes of a blob's body; n below 0 takes off what did not go after all.
func (c *counters) blobWritten(digest string, n int64) {
	if n == 0 {
		return
	}
	c.blobBytes.Add(n)
	c.change(func(s *Stats) {
		b := s.Blobs[digest]
		b.Bytes += n
		s.Blobs[digest] = b
	})
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	s.Blobs = make(map[string]BlobStats, len(c.s.Blobs))
	maps.Copy(s.Blobs, c.s.Blobs)
	s.Manifests = make(map[string]ManifestStats, len(c.s.Manifests))
	maps.Copy(s.Manifests, c.s.Manifests)
	s.ByUser = maps.Clone(c.s.ByUser)
	s.Sockets = map[string]int64{}
	for i := range c.written {
		n := c.written[i].Load()
		s.Sockets[endpointName(i).String()] = n
		s.SocketBytes += n
	}
	s.SocketBytesRead = c.read.Load()
	s.Connections = c.connections.Load()
	s.BlobBytes = c.blobBytes.Load()
	return s
}
