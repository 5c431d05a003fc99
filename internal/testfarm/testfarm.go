// Package testfarm runs a farm of real nodes and a Docker Hub stand-in in one process, over loopback, with faults on
// demand. It is for tests.
package testfarm

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

// A Farm is a Docker Hub stand-in and the nodes that mirror it.
type Farm struct {
	Hub   *hub.Hub
	Nodes []*Node

	t   *testing.T
	log *slog.Logger
}

// A Node is one node of the farm with its own data directory.
type Node struct {
	*node.Node
	Config node.Config

	farm   *Farm
	cancel context.CancelFunc
	done   chan error
	once   sync.Once

	adminOnce sync.Once
	admin     *adminapi.Client // keeps its connection
}

// Options say how a farm is.
type Options struct {
	Nodes  int
	Hub    hub.Config
	Change func(i int, c *node.Config) // of each node's configuration, before it starts
}

// Start starts a farm and waits until all its nodes are in one ring. It is stopped when the test ends.
func Start(t *testing.T, o Options) *Farm {
	t.Helper()
	h, err := hub.Start(o.Hub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	f := &Farm{Hub: h, t: t, log: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: logLevel(t)}))}
	for i := range o.Nodes {
		f.Add(func(c *node.Config) {
			if o.Change != nil {
				o.Change(i, c)
			}
		})
	}
	f.Settle()
	return f
}

func logLevel(*testing.T) slog.Level {
	if testing.Verbose() {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// A logWriter hands lines to the test; those that come after it has ended are dropped.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimRight(string(b), "\n"))
	}
	return len(b), nil
}

// Config is the configuration that a node of this farm starts from.
func (f *Farm) Config(dir string) node.Config {
	c := node.Default(dir)
	c.Registry.Listen, c.OptionalListen = []string{"127.0.0.1:0"}, nil
	c.PeerListen, c.PeerAdvertise = "127.0.0.1:0", "127.0.0.1:0"
	c.Gossip.Listen, c.Gossip.Timings = "127.0.0.1:0", gossip.Local()
	c.AdminListen, c.AdminSocket = "", filepath.Join(dir, "s")
	c.StopGrace = time.Second
	c.Partitions = 1024
	hubConfig := upstream.Default()
	hubConfig.URL = f.Hub.URL()
	c.Upstreams = map[string]node.Upstream{oci.DockerHub: {Client: hubConfig, TagTTL: time.Minute}}
	if Slowed { // else nodes that only take their time are taken for lost
		c.Gossip.Timings.ProbeInterval, c.Gossip.Timings.ProbeTimeout = time.Second, 500*time.Millisecond
		c.Transfer.ProbeTimeout, c.Transfer.AskTimeout = 3*time.Second, 3*time.Second
		c.Transfer.Silence, c.Transfer.PieceTimeout = 6*time.Second, 10*time.Second
	}
	for _, n := range f.Nodes {
		c.Gossip.Seeds = append(c.Gossip.Seeds, n.GossipAddress())
	}
	return c
}

// Add starts one more node; it does not wait for the ring.
func (f *Farm) Add(change func(*node.Config)) *Node {
	f.t.Helper()
	c := f.Config(f.dir())
	change(&c)
	n := &Node{Config: c, farm: f}
	n.start()
	n.keepAddresses()
	f.Nodes = append(f.Nodes, n)
	f.t.Cleanup(n.Stop)
	return n
}

// dir makes a data directory. Its path is short: a unix socket goes into it.
func (f *Farm) dir() string {
	dir, err := os.MkdirTemp("", "farm")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (n *Node) start() {
	n.farm.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.farm.t.Context()))
	opened, err := node.Open(ctx, n.Config, n.farm.log.With(slog.Int("at", slices.Index(n.farm.Nodes, n))))
	if err != nil {
		cancel()
		n.farm.t.Fatal(err)
	}
	n.Node, n.cancel, n.done, n.once = opened, cancel, make(chan error, 1), sync.Once{}
	go func() { n.done <- opened.Run(ctx) }()
	<-opened.Ready()
}

// Stop stops a node as an operator does. It may be called twice.
func (n *Node) Stop() {
	n.once.Do(func() {
		n.cancel()
		if err := <-n.done; err != nil {
			n.farm.t.Errorf("node %s stopped with %v; want nil", n.ID(), err)
		}
	})
}

// Restart stops a node and starts it again with its data directory and its addresses.
func (n *Node) Restart() {
	n.Stop()
	n.Start()
}

// Start starts a node that was stopped, with its data directory and its addresses. Its seeds are all other nodes.
func (n *Node) Start() {
	n.Config.Gossip.Seeds = nil
	for _, other := range n.farm.Others(n) {
		n.Config.Gossip.Seeds = append(n.Config.Gossip.Seeds, other.Config.Gossip.Listen)
	}
	n.start()
}

// keepAddresses makes the ports that the node was given the ones that it asks for the next time.
func (n *Node) keepAddresses() {
	n.farm.t.Helper()
	n.GossipAddress() // waits until there is one
	s := n.MustStatus()
	n.Config.Registry.Listen = s.Addresses.Registry
	n.Config.PeerListen, n.Config.PeerAdvertise = s.Addresses.Peer, s.Addresses.Peer
	n.Config.Gossip.Listen = s.Addresses.Gossip
}

// Settle waits until all nodes that run have one ring with all of them in it.
func (f *Farm) Settle() {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		hashes := map[uint64]bool{}
		members := map[int]bool{}
		for _, n := range f.Nodes {
			hash, count := n.Ring()
			hashes[hash], members[count] = true, true
		}
		if len(hashes) == 1 && members[len(f.Nodes)] && len(members) == 1 {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("farm of %d did not settle: rings %v of %v members", len(f.Nodes), hashes, members)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// URL is the node's registry door.
func (n *Node) URL() string { return "http://" + n.RegistryAddresses()[0] }

// Get asks the node's registry door for a path under /v2/ and returns the answer with its whole body.
func (n *Node) Get(path string, header ...string) (*http.Response, []byte, error) {
	q, err := http.NewRequestWithContext(n.farm.t.Context(), http.MethodGet, n.URL()+"/v2/"+path, nil)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Add(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DialContext: (&net.Dialer{}).DialContext}}
	defer client.CloseIdleConnections()
	r, err := client.Do(q)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	return r, body, err
}
