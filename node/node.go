package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/copies"
	"github.com/pullonce/pullonce/gossip"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/trust"
)

// A Node is one member of a farm, with all its rooms.
type Node struct {
	cfg  Config
	id   string
	boot string
	log  *slog.Logger

	store     *blobstore.Store
	gossip    *gossip.Gossip
	directory *directory
	upstreams *upstreams
	links     *links
	engine    *transfer.Engine
	raft      *raftStreams
	catalog   *catalog.Catalog
	copies    *copies.Keeper
	hosting   *hosting
	belonging *belonging
	trust     *trust.Trust // nil: members do not prove who they are
	token     trust.Token  // of a node that is to join
	// epochSince is when what the farm has agreed on about its trust changed last, in nanoseconds of the Unix time.
	epochSince atomic.Int64
	prefetch   *prefetch
	standings  *standings
	rights     *rights
	verdicts   *access.Verdicts
	secret     *access.Secret
	tags       *otter.Cache[tagKey, resolved]
	flights    flights
	metrics    *metrics
	started    time.Time

	peer      net.Listener
	peers     *grpc.Server
	doors     []net.Listener
	registry  *http.Server
	adminHTTP net.Listener
	adminSock net.Listener
	admin     []adminDoor

	life       context.Context //nolint:containedctx // of Run, for what outlives a request
	background sync.WaitGroup
	requests   sync.WaitGroup // at the registry door; a server that is closed does not wait for them
	placed     chan struct{}  // closed when the node has its place in the ring, or has waited long enough for it
	placing    sync.Once
	ready      chan struct{} // closed when it serves
}

// questionLimit bounds one question to an upstream, however many wait for it.
const questionLimit = 30 * time.Second

// Open takes the node's data directory and its addresses. Close gives them back, unless Run has.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, boot: randomID(8), log: log, metrics: newMetrics(), tags: newTags(), started: time.Now(),
		flights: flights{limit: questionLimit}, ready: make(chan struct{}), placed: make(chan struct{}),
	}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// open puts the rooms together from the ground up.
func (n *Node) open(ctx context.Context) error {
	if err := os.MkdirAll(n.cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	var err error
	if n.cfg.Trust.Mode == trust.Own {
		if err := n.ownFiles(); err != nil {
			return err
		}
	}
	store := n.cfg.Store
	if store.Issuer, err = identity(n.cfg.DataDir); err != nil {
		return err
	}
	store.OnRot = func(d oci.Digest, piece int) {
		if n.engine != nil {
			n.engine.Rotted(d, piece)
		}
	}
	store.OnDrop = func(d oci.Digest) {
		if n.engine != nil {
			n.engine.Dropped(d)
		}
	}
	store.MayDrop = func(ctx context.Context, digests []oci.Digest) []oci.Digest {
		if n.engine == nil {
			return nil // the store runs only after all is put together, but its hooks are set before
		}
		return n.engine.Droppable(ctx, digests)
	}
	if n.store, err = blobstore.Open(store, n.log); err != nil {
		return err
	}
	// Read again now that the store's lock keeps every other node out of the directory.
	if n.id, err = identity(n.cfg.DataDir); err != nil {
		return err
	}
	n.log = n.log.With(slog.String("node", n.id))
	if n.cfg.Trust.Mode == trust.Auto {
		if err := n.openTrust(); err != nil {
			return err
		}
	}
	n.links, n.standings = newLinks(n.store, n.log), newStandings(n.store, n.tagTTL, n.log)
	n.verdicts, n.secret = access.NewVerdicts(maxVerdicts), access.NewSecret()
	if n.upstreams, err = newUpstreams(n.cfg, n.links, n.standings, n.log); err != nil {
		return err
	}
	n.rights = n.upstreams.rights
	if err := n.openFarm(ctx); err != nil {
		return err
	}
	return n.openDoors()
}

// openFarm sets up what talks to the other nodes.
func (n *Node) openFarm(ctx context.Context) error {
	listen := net.ListenConfig{Control: transfer.SocketOptions}
	var err error
	if n.peer, err = listen.Listen(ctx, network("tcp", n.cfg.PeerListen), n.cfg.PeerListen); err != nil {
		return addressError("peer.listen", n.cfg.PeerListen, err)
	}
	advertise, err := advertised(n.cfg.PeerAdvertise, n.peer)
	if err != nil {
		return err
	}
	g := n.cfg.Gossip
	g.ID, g.BootID, g.Farm, g.Zone, g.Version = n.id, n.boot, n.cfg.Farm, n.cfg.Zone, n.cfg.Version
	g.PeerAddr, g.Egress = advertise, n.cfg.Egress != EgressNo
	g.Known = rememberedPeers(n.cfg.DataDir)
	n.sealGossip(&g)
	if n.gossip, err = gossip.New(g, n.log); err != nil {
		return err
	}
	n.directory = newDirectory(n.gossip, n.cfg.Partitions, n.cfg.DataDir, n.log)
	n.directory.heard = n.hearEpochs
	n.raft = newRaftStreams(n.peer.Addr())
	if err := n.openCatalog(); err != nil {
		return err
	}
	t := n.cfg.Transfer
	t.Self = transfer.Node{ID: n.id, Boot: n.boot, Address: advertise, Zone: n.cfg.Zone}
	parts := transfer.Parts{
		Store: n.store, Directory: n.directory, Upstream: n.upstreams, Documents: n, Status: n.statusJSON, Connections: n.upstreams.connections,
		Streams: n.raft.take, Hosted: n.hosts, Rights: n.rights, Lease: newLeases(n),
	}
	if n.trusting() {
		parts.Secure = n.trust
	}
	if n.engine, err = transfer.New(t, parts, n.log); err != nil {
		return err
	}
	if err := n.openCopies(); err != nil {
		return err
	}
	n.metrics.registry.MustRegister(
		engineCollector{n.engine}, upstreamCollector{n.upstreams}, copiesCollector{n.copies}, n.catalog.Collector(), n.gossip.Collector(),
	)
	n.prefetch = newPrefetch(n)
	n.peers = grpc.NewServer(n.engine.ServerOptions()...)
	n.engine.Attach(n.peers)
	n.catalog.Register(n.peers)
	n.copies.Register(n.peers)
	n.attachTrust()
	return nil
}

// openDoors takes the addresses that clients and operators come to.
func (n *Node) openDoors() error {
	n.serveByFarm()
	handler, err := n.openDoor()
	if err != nil {
		return err
	}
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.requests.Add(1)
		defer n.requests.Done()
		handler.ServeHTTP(w, r)
	})
	n.registry = registryapi.NewServer(n.cfg.Registry, counted, n.log)
	if err := n.openRegistry(); err != nil {
		return err
	}
	if err := n.nameRegistry(); err != nil {
		return err
	}
	if err := n.openAdmin(); err != nil {
		return err
	}
	return n.buildAdmin()
}

// Close gives back what Open took and Run has not. It may be called twice.
func (n *Node) Close() error {
	var errs []error
	for _, l := range append([]net.Listener{n.peer, n.adminHTTP, n.adminSock}, n.doors...) {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Close())
	}
	if n.catalog != nil {
		errs = append(errs, n.catalog.Close())
	}
	if n.upstreams != nil {
		n.upstreams.close()
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// Ready is closed when the node serves.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// ID is the node's lasting id.
func (n *Node) ID() string { return n.id }

// RegistryAddresses are the addresses that the registry door listens on.
func (n *Node) RegistryAddresses() []string {
	var out []string
	for _, l := range n.doors {
		out = append(out, l.Addr().String())
	}
	return out
}

// Run serves until ctx is done or a room fails, and returns when all has stopped. It stops in the reverse of need:
// the doors first, so that nothing new comes in; then what serves them; the store last, since everything writes to it.
func (n *Node) Run(ctx context.Context) error {
	farm, stopFarm := context.WithCancel(context.WithoutCancel(ctx)) // outlives the doors
	defer stopFarm()
	wires, stopWires := context.WithCancel(context.WithoutCancel(ctx)) // outlives who speaks over the engine's connections
	defer stopWires()
	disk, stopDisk := context.WithCancel(context.WithoutCancel(ctx)) // outlives the farm
	defer stopDisk()
	n.life = farm

	g, ctx := errgroup.WithContext(ctx)
	if err := n.beMember(ctx, g.Go); err != nil {
		return errors.Join(err, n.Close())
	}
	stores, engine, movers := &errgroup.Group{}, &errgroup.Group{}, &errgroup.Group{}
	stores.Go(func() error { return quiet(n.store.Run(disk)) })
	engine.Go(func() error { return quiet(n.engine.Run(wires)) })
	movers.Go(func() error { return quiet(n.catalog.Run(farm)) })
	movers.Go(func() error { return quiet(n.copies.Run(farm)) })
	movers.Go(func() error { return n.directory.run(farm) })
	if n.trusting() {
		movers.Go(func() error { return quiet(n.trust.Run(farm)) })
	}
	movers.Go(func() error { return n.tendHosted(farm) })
	movers.Go(func() error { return n.activate(farm) })
	movers.Go(func() error { return n.watchEgress(farm) })
	g.Go(func() error { // a node that stops says so at once
		return addressError("gossip.listen", n.cfg.Gossip.Listen, n.gossip.Run(ctx))
	})
	g.Go(func() error { return ignoreStopped(n.peers.Serve(transfer.Listener(n.peer))) })
	g.Go(func() error {
		<-ctx.Done()
		return n.stop(ctx)
	})
	n.openToClients(ctx, g)

	err := g.Wait()
	stopFarm()
	n.flights.stop() // nobody is left who waits for an answer
	n.background.Wait()
	err = errors.Join(err, movers.Wait())
	stopWires()
	err = errors.Join(err, engine.Wait())
	stopDisk()
	return errors.Join(err, stores.Wait(), n.Close())
}

// openToClients serves the doors as soon as what serves them runs.
func (n *Node) openToClients(ctx context.Context, g *errgroup.Group) {
	for _, started := range []<-chan struct{}{n.engine.Started(), n.gossip.Started()} {
		select {
		case <-started:
		case <-ctx.Done():
			return
		}
	}
	for _, l := range n.doors {
		g.Go(func() error { return ignoreStopped(n.registry.Serve(registryapi.Listener(n.cfg.Registry, l))) })
	}
	n.serveAdmin(g)
	close(n.ready)
	n.log.Info("node serves", slog.Any("registry", n.RegistryAddresses()), slog.String("peer", n.peer.Addr().String()))
}

// stop lets responses that are on their way end within the grace time, then closes what is left.
func (n *Node) stop(ctx context.Context) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.StopGrace)
	defer cancel()
	n.log.Info("node stops")
	var doors sync.WaitGroup
	servers := []*http.Server{n.registry}
	for _, d := range n.admin {
		servers = append(servers, d.server)
	}
	for _, s := range servers {
		doors.Go(func() {
			if err := s.Shutdown(grace); err != nil {
				_ = s.Close()
			}
		})
	}
	doors.Wait()
	n.requests.Wait()
	// Peers have other sources; only pieces that are on their way are waited for.
	stopped := make(chan struct{})
	go func() {
		n.peers.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(peerGrace):
		n.peers.Stop()
		<-stopped
	}
	return nil
}

// peerGrace is how long pieces that are on their way to peers may take when the node stops.
const peerGrace = time.Second

// joinPatience is how long a node that has just started waits for its farm before it serves alone: without the ring it
// would fetch from the upstream what the farm has.
const joinPatience = 3 * time.Second

// activate gives the node its place in the ring once it has met the farm.
func (n *Node) activate(ctx context.Context) error {
	patience := time.AfterFunc(joinPatience, n.place)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-n.gossip.Joined():
	}
	n.directory.update() // before others take this node for an owner it must know the ring itself
	if err := n.gossip.UpdateSelf(func(m *gossip.Member) { m.State = gossip.Active }); err != nil {
		return err
	}
	n.directory.update()
	n.place()
	return nil
}

// place lets pulls begin.
func (n *Node) place() {
	n.placing.Do(func() { close(n.placed) })
}

// awaitFarm waits until the node has its place in the ring, or has waited long enough for it.
func (n *Node) awaitFarm(ctx context.Context) error {
	select {
	case <-n.placed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func quiet(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func ignoreStopped(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// metricsHandler serves the node's metrics.
func (n *Node) metricsHandler() http.Handler {
	return promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{})
}

// GossipAddress is the address that other nodes may use as a seed. It waits until there is one.
func (n *Node) GossipAddress() string {
	<-n.gossip.Started()
	return n.gossip.Self().GossipAddr
}

// Ring is the hash of the node's ring and the number of its members.
func (n *Node) Ring() (hash uint64, members int) {
	view := n.directory.View()
	return view.Hash(), len(view.Members())
}
