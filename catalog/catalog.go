package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// A Catalog is this node's part in the farm's catalog: a replica of it, or a client of those that keep one, or one who
// waits until there is one. What it is changes while it runs.
type Catalog struct {
	cfg    Config
	parts  Parts
	log    *slog.Logger
	seeds  []string // canonical
	meters meters

	// orders are carried out one at a time by Run: only it changes who the node is.
	orders chan order
	ended  chan struct{} // Run has returned
	once   sync.Once
	asking sync.WaitGroup // questions that Run waits for

	mu        sync.Mutex
	id        identity
	replica   *replica
	peers     map[string]heard
	seen      map[string]time.Time // replica name -> when it answered last
	polls     int                  // rounds of asking that are over
	state     State                // what status shows while there is no replica
	started   time.Time            // Run was called
	frozen    bool                 // the replica is being given up: nothing is appended
	replacing bool                 // a person is founding a catalog here
	appending int                  // commands that are being appended
	refusing  bool                 // another catalog has hosted content too
	skipTo    time.Time            // until when leases are skipped
	founding  founding
	outage    outage
}

// An order is something that changes who the node is.
type order struct {
	do   func() error
	done chan error
}

// heard is what a peer said last.
type heard struct {
	reply *catalogpb.HelloReply
	at    time.Time
}

// Open reads who the node was. Run starts it.
func Open(cfg Config, parts Parts, log *slog.Logger) (*Catalog, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	id, err := loadIdentity(cfg.Dir, !cfg.NoSync)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	if id.Catalog == "" {
		id.Catalog = cfg.Former
	}
	return &Catalog{
		cfg: cfg, parts: parts, log: log, seeds: canonical(cfg.Seeds), id: id, peers: map[string]heard{}, seen: map[string]time.Time{}, meters: newMeters(),
		orders: make(chan order), ended: make(chan struct{}), state: WaitingForCatalog,
	}, nil
}

// Register lets s serve what other nodes ask of this one.
func (c *Catalog) Register(s grpc.ServiceRegistrar) {
	catalogpb.RegisterCatalogServer(s, &server{catalog: c})
}

// Run takes part in the catalog until ctx ends. It is called once. When it has returned, nothing of the catalog runs.
func (c *Catalog) Run(ctx context.Context) error {
	defer c.once.Do(func() { close(c.ended) })
	c.mu.Lock()
	c.started = time.Now()
	id := c.id
	c.mu.Unlock()
	if err := c.resume(id); err != nil {
		return fmt.Errorf("run catalog: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.serveStreams(ctx) })
	group.Go(func() error { return c.poll(ctx) })
	group.Go(func() error { return c.live(ctx) })
	group.Go(func() error { return c.steward(ctx) })
	err := group.Wait()
	c.asking.Wait()
	if r := c.detach(); r != nil {
		err = errors.Join(err, r.close(true)) // its streams are the last to go: a successor may have to be told
	}
	return err
}

// resume starts the replica that the directory has, or clears away what is left of one that was given up.
func (c *Catalog) resume(id identity) error {
	if !id.Replica {
		return removeState(c.cfg.Dir)
	}
	return c.attach(id)
}

// Close ends a Catalog whose Run was never called; after Run it does nothing.
func (c *Catalog) Close() error {
	c.once.Do(func() { close(c.ended) })
	return nil
}

// live carries out orders, and looks about between them.
func (c *Catalog) live(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Poll / 4)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case o := <-c.orders:
			o.done <- o.do()
		case <-tick.C:
			c.lookForLeader()
			if err := c.step(ctx); err != nil {
				c.log.LogAttrs(ctx, slog.LevelError, "catalog trouble", slog.Any("error", err))
			}
		}
	}
}

// do has Run carry out f, and waits for it.
func (c *Catalog) do(ctx context.Context, f func() error) error {
	o := order{f, make(chan error, 1)}
	select {
	case c.orders <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return errors.New("the catalog does not run")
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// become makes the node somebody else: on disk first.
func (c *Catalog) become(id identity) error {
	if err := id.save(c.cfg.Dir, !c.cfg.NoSync); err != nil {
		return err
	}
	c.mu.Lock()
	c.id = id
	c.mu.Unlock()
	return nil
}

func (c *Catalog) identity() identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// ID names the catalog that this node is of; "" while it knows none. It does not wait.
func (c *Catalog) ID() string { return c.identity().Catalog }

// current is the replica, or nil.
func (c *Catalog) current() *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replica
}

// layer is the stream layer of the replica, or nil.
func (c *Catalog) layer() *layer {
	if r := c.current(); r != nil {
		return r.layer
	}
	return nil
}

// attach starts the replica of id, which founds its catalog when it is the one that was decided on.
func (c *Catalog) attach(id identity) error {
	found := id.Accepted.Raft == id.Raft && id.Accepted.Catalog == id.Catalog && !id.Founded
	r, err := openReplica(c.cfg, c.parts, c.log, id, found, c.confirm)
	if err != nil {
		return err
	}
	if found {
		id.Founded = true
		if err := c.become(id); err != nil {
			return errors.Join(err, r.close(false))
		}
	}
	c.mu.Lock()
	c.replica, c.refusing = r, false
	c.mu.Unlock()
	return nil
}

// detach takes the replica away from whoever would use it.
func (c *Catalog) detach() *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.replica
	c.replica = nil
	return r
}

// retire gives up the replica and its name. What it would have voted for is forgotten, so it must not be of use to its
// catalog any more.
func (c *Catalog) retire(catalog string) error {
	id := c.identity()
	if !id.Replica {
		return nil
	}
	next := identity{Raft: newName(), Catalog: catalog, Promised: id.Promised}
	var err error
	if r := c.detach(); r != nil {
		err = r.close(false)
	}
	err = errors.Join(err, c.become(next), removeState(c.cfg.Dir))
	c.mu.Lock()
	c.frozen, c.refusing = false, false
	c.mu.Unlock()
	return err
}

// client speaks to a member.
func (c *Catalog) client(node string) (catalogpb.CatalogClient, error) {
	m, ok := c.parts.Farm.Lookup(node)
	if !ok || m.Address == "" {
		return nil, fmt.Errorf("ask %s: no such member", node)
	}
	conn, err := c.parts.Conn(m.Address)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", node, err)
	}
	return catalogpb.NewCatalogClient(conn), nil
}

// alive are the members that are there, without this node.
func (c *Catalog) alive() []Member {
	return slices.DeleteFunc(slices.Clone(c.parts.Farm.Members()), func(m Member) bool {
		return !m.Gone.IsZero() || m.ID == c.cfg.Node
	})
}
