package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/pullonce/pullonce/gossip"
)

// network carries gossip inside a process: it can be cut, and it runs in a
// synctest bubble.
type network struct {
	mu    sync.Mutex
	nodes map[string]*transport
	cut   func(from, to string) bool
}

func newNetwork(t *testing.T) *network {
	// The library does not wait for its last probe when it is shut down.
	t.Cleanup(func() { time.Sleep(time.Minute) })
	return &network{nodes: make(map[string]*transport)}
}

// setCut makes the network drop what goes between two addresses.
func (n *network) setCut(cut func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// reach returns the transport at an address, or nil, and whether the way is cut.
func (n *network) reach(from, to string) (*transport, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, there := n.nodes[from]
	return n.nodes[to], !there || n.cut != nil && n.cut(from, to)
}

func (n *network) attach(address string) *transport {
	t := &transport{
		net: n, address: address,
		packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[address] = t
	return t
}

// pull takes a node off the network without a word.
func (n *network) pull(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.nodes, address)
}

type transport struct {
	net     *network
	address string
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	a := netip.MustParseAddrPort(t.address)
	return a.Addr().AsSlice(), int(a.Port()), nil
}

func (t *transport) WriteTo(b []byte, to string) (time.Time, error) {
	dest, cut := t.net.reach(t.address, to)
	if dest == nil || cut {
		return time.Now(), nil
	}
	from := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(t.address))
	select {
	case dest.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: from, Timestamp: time.Now()}:
	default:
	}
	return time.Now(), nil
}

func (t *transport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	dest, cut := t.net.reach(t.address, to)
	if cut {
		time.Sleep(timeout)
		return nil, errors.New("timeout")
	}
	if dest == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	select {
	case dest.streams <- there:
		return here, nil
	default:
		return nil, errors.New("connection refused")
	}
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) Shutdown() error {
	t.net.pull(t.address)
	for {
		select {
		case conn := <-t.streams:
			_ = conn.Close()
		default:
			return nil
		}
	}
}

// node is a Gossip that runs.
type node struct {
	*gossip.Gossip
	net     *network
	address string
	cancel  context.CancelFunc
	done    chan error
}

func (n *network) address(i int) string { return fmt.Sprintf("10.0.%d.%d:7946", i/250, i%250+1) }

func (n *network) config(i int, seeds ...string) gossip.Config {
	cfg := gossip.Default()
	cfg.ID = fmt.Sprintf("node-%03d", i)
	cfg.BootID = "boot-1"
	cfg.Zone = fmt.Sprintf("zone-%d", i%3)
	cfg.PeerAddr = fmt.Sprintf("10.0.%d.%d:7947", i/250, i%250+1)
	cfg.Seeds = seeds
	return cfg
}

// start runs a node at address i until the test ends. It becomes active at once,
// as a node does that has looked around.
func (n *network) start(t *testing.T, i int, cfg gossip.Config) *node {
	t.Helper()
	nd := n.startJoining(t, i, cfg)
	nd.activate(t)
	return nd
}

func (n *network) startJoining(t *testing.T, i int, cfg gossip.Config) *node {
	t.Helper()
	nd := &node{net: n, address: n.address(i), done: make(chan error, 1)}
	cfg.Transport = n.attach(nd.address)
	g, err := gossip.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	nd.Gossip, nd.cancel = g, cancel
	go func() { nd.done <- g.Run(ctx) }()
	t.Cleanup(nd.stop)
	<-g.Started()
	return nd
}

func (nd *node) activate(t *testing.T) {
	t.Helper()
	if err := nd.UpdateSelf(func(m *gossip.Member) { m.State = gossip.Active }); err != nil {
		t.Fatal(err)
	}
}

// stop ends the node as SIGTERM does.
func (nd *node) stop() {
	nd.cancel()
	nd.done <- <-nd.done
}

// kill ends it without a word.
func (nd *node) kill() {
	nd.net.pull(nd.address)
	nd.stop()
}

func ids(members []gossip.Member) []string {
	var out []string
	for _, m := range members {
		out = append(out, m.ID)
	}
	return out
}

// eventually waits in fake time for what the farm must come to.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// always checks for a time that something stays true.
func always(t *testing.T, during time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if !holds() {
			t.Fatalf("no longer true: %s", what)
		}
	}
}
