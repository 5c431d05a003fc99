package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"
)

// A liveConn is a connection to a member, from the end of its handshake until it is closed.
type liveConn struct {
	*tls.Conn

	raw      net.Conn // below TLS
	id       string
	protocol string
	chain    []*x509.Certificate // what the peer has shown, its own first
	usage    x509.ExtKeyUsage    // what it was checked for
	key      [sha256.Size]byte
	list     *live
}

// PeerID is the id in the peer's certificate.
func (c *liveConn) PeerID() string { return c.id }

// Close tells the peer, as far as that does not block for long, and closes the connection.
func (c *liveConn) Close() error {
	c.list.remove(c)
	return c.Conn.Close()
}

// cut closes the connection at once: the peer is told nothing, and whoever reads or writes here gets an error.
func (c *liveConn) cut() {
	c.list.remove(c)
	_ = c.raw.Close()
}

// live are the connections that are open.
type live struct {
	mu    sync.Mutex
	peers map[string]*livePeer
	count int
}

// A livePeer is what is open to one peer. It is forgotten with its last connection.
type livePeer struct {
	conns map[*liveConn]struct{}
	// key and ends are of the newest certificate that the peer has shown: connections of the same key, which were made
	// before it was renewed, live on with it.
	key  [sha256.Size]byte
	ends time.Time
}

func newLive() *live { return &live{peers: make(map[string]*livePeer)} }

// add takes a connection in.
func (l *live) add(c *liveConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[c.id]
	if p == nil {
		p = &livePeer{conns: make(map[*liveConn]struct{})}
		l.peers[c.id] = p
	}
	p.conns[c] = struct{}{}
	l.count++
	if ends := c.chain[0].NotAfter; ends.After(p.ends) {
		p.key, p.ends = c.key, ends
	}
}

// remove forgets a connection; one that is not there is no harm.
func (l *live) remove(c *liveConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[c.id]
	if p == nil {
		return
	}
	if _, ok := p.conns[c]; !ok {
		return
	}
	delete(p.conns, c)
	l.count--
	if len(p.conns) == 0 {
		delete(l.peers, c.id)
	}
}

// closeWhere closes the connections that bad says so of.
func (l *live) closeWhere(bad func(*liveConn) bool) {
	for _, c := range l.all() {
		if bad(c) {
			c.cut()
		}
	}
}

// closeRunOut closes the connections whose peer's certificate had run out at now.
func (l *live) closeRunOut(now time.Time) (closed int) {
	over := l.runOut(now)
	for _, c := range over {
		c.cut()
	}
	return len(over)
}

func (l *live) runOut(now time.Time) (over []*liveConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		for c := range p.conns {
			ends := c.chain[0].NotAfter
			if c.key == p.key {
				ends = p.ends
			}
			if now.After(ends) {
				over = append(over, c)
			}
		}
	}
	return over
}

func (l *live) all() []*liveConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*liveConn, 0, l.count)
	for _, p := range l.peers {
		for c := range p.conns {
			all = append(all, c)
		}
	}
	return all
}

// size is how many connections are open.
func (l *live) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}
