// Package hub stands in for Docker Hub: a token service, a registry and a CDN that behave towards
// clients as Docker Hub does, count every byte and request, and misbehave on demand.
//
// The content is kept by the Hub itself (Put…, or a push over HTTP) or by another registry behind
// it (Config.Backend), such as the program in tools/distribution; either way the front is the same:
// Bearer tokens with scopes, private repositories, redirects of blobs to signed, expiring URLs,
// rate-limit headers, a link of limited rate. Content and images come from the package images.
//
// A Hub and all its methods may be used by many goroutines at once.
package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// Hub is a running Docker Hub stand-in. Close ends it.
type Hub struct {
	cfg     Config
	ends    [endpoints]*endpoint // one may stand at several places
	admin   *http.Server
	backend http.Handler
	memory  *memory // nil with a Config.Backend
	back    *proxy  // nil without
	refs    *referrers
	pulls   *pullLimit
	rights  *rights
	faults  faults
	stats   *counters
	link    atomic.Pointer[link] // nil: unlimited
	key     []byte               // signs tokens and redirects

	adminAddr net.Addr
	wg        sync.WaitGroup
	cancel    context.CancelFunc
	closeOnce sync.Once
}

// Start opens the listeners and serves on them until Close. Listeners given in cfg are closed by
// Close, also when Start itself fails.
func Start(cfg Config) (*Hub, error) {
	h := &Hub{cfg: cfg.filled(), refs: newReferrers(), rights: newRights(cfg), stats: newCounters(), key: make([]byte, 32)}
	_, _ = rand.Read(h.key) // never fails
	if err := h.open(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.serve()
	return h, nil
}

func (h *Hub) open() error {
	if err := h.cfg.Validate(); err != nil {
		closeGiven(h.cfg)
		return err
	}
	h.pulls = newPullLimit(h.cfg.PullLimit, h.cfg.PullWindow)
	h.SetRate(h.cfg.Rate)
	if h.cfg.Backend == "" {
		h.memory = newMemory(h.cfg.Dir)
		h.backend = h.memory
	} else {
		h.back = newProxy(h.cfg.Backend)
		h.backend = h.back
	}
	return h.openEndpoints()
}

func closeGiven(cfg Config) {
	for _, ln := range []net.Listener{cfg.RegistryListener, cfg.AuthListener, cfg.CDNListener} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

func (h *Hub) openEndpoints() error {
	for i, want := range []struct {
		given   net.Listener
		address string
	}{
		{h.cfg.RegistryListener, h.cfg.Listen},
		{h.cfg.AuthListener, h.cfg.AuthListen},
		{h.cfg.CDNListener, h.cfg.CDNListen},
	} {
		name := endpointName(i)
		if want.given == nil && want.address == Same && name != registryEnd {
			h.ends[registryEnd].roles[name] = true
			h.ends[name] = h.ends[registryEnd]
			continue
		}
		e, err := h.newEndpoint(name, want.given, want.address)
		if err != nil {
			closeGiven(h.cfg)
			return err
		}
		h.ends[name] = e
	}
	return h.openAdmin()
}

// serve starts the servers. Their requests end with the Hub, which no caller's context outlives or
// cuts short, hence the context of its own.
func (h *Hub) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	for i, e := range h.ends {
		if e.name != endpointName(i) {
			continue
		}
		e.server.BaseContext = func(net.Listener) context.Context { return ctx }
		e.start(e.ln)
	}
}

// Close ends all requests, hanging ones too, closes the listeners and waits for all goroutines.
func (h *Hub) Close() error {
	h.closeOnce.Do(func() {
		if h.cancel != nil {
			h.cancel()
		}
		for i, e := range h.ends {
			if e != nil && e.name == endpointName(i) {
				e.close()
			}
		}
		if h.admin != nil {
			_ = h.admin.Close()
		}
		h.wg.Wait()
		if h.back != nil {
			h.back.close()
		}
		if h.memory != nil {
			h.memory.close()
		}
	})
	return nil
}

// URL is the registry's base URL without a slash at its end.
func (h *Hub) URL() string { return h.publicURL(registryEnd, nil) }

// Host is the registry's host and port, as image names carry it.
func (h *Hub) Host() string {
	_, host, _ := strings.Cut(h.URL(), "://")
	return host
}

// TokenURL is the token service's URL, as challenges name it.
func (h *Hub) TokenURL() string { return h.publicURL(authEnd, nil) + "/token" }

// CDNURL is the base URL that redirects lead to.
func (h *Hub) CDNURL() string { return h.publicURL(cdnEnd, nil) }

// publicURL is what clients are told: the configured URL, or one made of the listener's address.
func (h *Hub) publicURL(name endpointName, r *http.Request) string {
	if set := [endpoints]string{h.cfg.RegistryURL, h.cfg.AuthURL, h.cfg.CDNURL}[name]; set != "" {
		return strings.TrimSuffix(set, "/")
	}
	e := h.ends[name]
	addr := e.addr.String()
	if tcp, ok := e.addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host := "127.0.0.1"
		if r != nil {
			host = hostname(r.Host)
		}
		addr = net.JoinHostPort(host, fmt.Sprint(tcp.Port))
	}
	return e.scheme() + "://" + addr
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// Stats returns what was counted since the start or the last Reset.
func (h *Hub) Stats() Stats { return h.stats.snapshot() }

// Reset sets the counters to zero and forgets what the pull limit has counted.
func (h *Hub) Reset() {
	h.stats.reset()
	h.pulls.reset()
}

// SetRate limits all blob bytes together to so many bytes a second from now on; 0: no limit.
func (h *Hub) SetRate(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		h.link.Store(nil)
		return
	}
	h.link.Store(newLink(bytesPerSecond))
}

// errBackend is the answer to Put… where another registry keeps the content.
var errBackend = errors.New("the content is kept by the registry behind the hub: push to that")

// PutBlob stores a blob in a repository and returns its digest.
func (h *Hub) PutBlob(repo string, data []byte) (digest.Digest, error) {
	if h.memory == nil {
		return "", errBackend
	}
	d := digest.FromBytes(data)
	h.memory.link(repo, d, &blob{data: data, size: int64(len(data))})
	return d, nil
}

// PutBlobFile stores a blob whose bytes stay in the file at path, which must not change while the
// Hub runs. The digest is taken as given: a wrong one makes the Hub serve wrong bytes.
func (h *Hub) PutBlobFile(repo string, d digest.Digest, path string, size int64) error {
	if h.memory == nil {
		return errBackend
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("put blob %q: %w", d, err)
	}
	h.memory.link(repo, d, &blob{path: path, size: size})
	return nil
}

// PutManifest stores a manifest in a repository, under its digest and, if reference is a tag, under
// that. An empty reference sets no tag. Blobs that it names are not looked for.
func (h *Hub) PutManifest(repo, reference, mediaType string, raw []byte) (digest.Digest, error) {
	if h.memory == nil {
		return "", errBackend
	}
	d, err := h.memory.putManifest(repo, reference, mediaType, raw)
	if err != nil {
		return "", err
	}
	h.refs.record(repo, mediaType, d, raw)
	return d, nil
}

// DeleteTag removes a tag; the manifest stays.
func (h *Hub) DeleteTag(repo, tag string) error {
	if h.memory == nil {
		return errBackend
	}
	h.memory.deleteTag(repo, tag)
	return nil
}

// DeleteBlob removes a blob from a repository.
func (h *Hub) DeleteBlob(repo string, d digest.Digest) error {
	if h.memory == nil {
		return errBackend
	}
	h.memory.unlink(repo, d)
	return nil
}
