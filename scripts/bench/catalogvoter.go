package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
)

// voterCommand has this program be a node that is nothing but its part in a catalog, in a process of its own: it takes
// orders on its standard input, a JSON text each, and answers each with one.
const voterCommand = "serve-catalog"

// A voterConfig is the first thing that such a node reads.
type voterConfig struct {
	Node, Dir string
	Nodes     []voterPeer // all, this one among them
	SyncDelay time.Duration
}

type voterPeer struct{ Node, Calls, Streams string }

// A voterOrder is something to do.
type voterOrder struct {
	Do    string // "status", "put", "get" or "fill"
	Count int    // of puts or repositories
	From  int    // the first of them
	Rate  int    // gets a second
	Time  time.Duration
}

// A voterReply is what came of it.
type voterReply struct {
	Error  string
	Times  []time.Duration
	Status catalog.Status
}

// gcPercent is that of p2pd.
const gcPercent = 30

func serveVoter(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	debug.SetGCPercent(gcPercent)
	calls, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	if err := out.Encode(voterPeer{Calls: calls.Addr().String(), Streams: streams.Addr().String()}); err != nil {
		return err
	}
	var cfg voterConfig
	if err := in.Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	c, err := openVoter(cfg, streams)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	c.Register(server)
	go func() { _ = server.Serve(calls) }()
	defer server.Stop()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	err = obey(ctx, c, cfg.Node, in, out)
	stop()
	return errors.Join(err, <-ended)
}

// obey carries out orders until there are no more.
func obey(ctx context.Context, c *catalog.Catalog, node string, in *json.Decoder, out *json.Encoder) error {
	for {
		var order voterOrder
		if err := in.Decode(&order); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		reply := voterReply{Status: c.Status()}
		var err error
		switch order.Do {
		case "put":
			reply.Times, err = putTags(ctx, c, node, order.Count)
		case "get":
			reply.Times, err = getTags(ctx, c, order)
		case "fill":
			reply.Times = make([]time.Duration, 1)
			reply.Times[0], err = fill(ctx, c, order)
		}
		if err != nil {
			reply.Error = err.Error()
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
}

func openVoter(cfg voterConfig, streams net.Listener) (*catalog.Catalog, error) {
	own := catalog.Default()
	own.Dir, own.Node, own.Boot = cfg.Dir, cfg.Node, fmt.Sprint(os.Getpid())
	if len(cfg.Nodes) > 1 {
		for _, p := range cfg.Nodes {
			own.Seeds = append(own.Seeds, p.Node)
		}
	}
	if cfg.SyncDelay > 0 {
		own.BeforeSync = func() { time.Sleep(cfg.SyncDelay) }
	}
	f := &voterFarm{began: time.Now(), peers: cfg.Nodes, conns: map[string]*grpc.ClientConn{}}
	parts := catalog.Parts{Farm: f, Streams: streams, Dial: f.dial, Conn: f.conn}
	return catalog.Open(own, parts, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
}

// A voterFarm is a farm that never changes.
type voterFarm struct {
	began time.Time
	peers []voterPeer

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

// Members implements catalog.Farm.
func (f *voterFarm) Members() []catalog.Member {
	all := make([]catalog.Member, 0, len(f.peers))
	for _, p := range f.peers {
		all = append(all, catalog.Member{ID: p.Node, Boot: p.Node, Address: p.Calls, Since: f.began, Seats: []string{p.Node}})
	}
	return all
}

// Lookup implements catalog.Farm.
func (f *voterFarm) Lookup(id string) (catalog.Member, bool) {
	for _, m := range f.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return catalog.Member{}, false
}

func (f *voterFarm) dial(ctx context.Context, address string) (net.Conn, error) {
	for _, p := range f.peers {
		if p.Calls == address {
			return new(net.Dialer).DialContext(ctx, "tcp", p.Streams)
		}
	}
	return nil, fmt.Errorf("no peer at %s", address)
}

func (f *voterFarm) conn(address string) (grpc.ClientConnInterface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		f.conns[address] = c
	}
	return c, err
}

// Names of what the nodes put and get.
const (
	catalogRepository = "team/bench"
	catalogTag        = "latest"
)

func someDigest(name string) oci.Digest { return oci.FromBytes(oci.SHA256, []byte(name)) }

func apply(ctx context.Context, c *catalog.Catalog, do catalog.Action) error {
	r, err := c.Apply(ctx, catalog.Command{Do: do})
	return errors.Join(err, r.Err)
}

// putTags puts tags one after the other, as often as asked.
func putTags(ctx context.Context, c *catalog.Catalog, node string, n int) ([]time.Duration, error) {
	d := someDigest("manifest")
	put := catalog.PutManifest{Repository: catalogRepository, Descriptor: oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: d, Size: 400}}
	if err := apply(ctx, c, put); err != nil {
		return nil, err
	}
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if err := apply(ctx, c, catalog.PutTag{Repository: catalogRepository, Tag: fmt.Sprintf("%s-%d", node, i%100), Digest: d}); err != nil {
			return nil, err
		}
		times[i] = time.Since(began)
	}
	return times, apply(ctx, c, catalog.PutTag{Repository: catalogRepository, Tag: catalogTag, Digest: d})
}

// getTags reads a tag at a steady rate. What a request takes is counted from when it was due.
func getTags(ctx context.Context, c *catalog.Catalog, o voterOrder) ([]time.Duration, error) {
	n := int(o.Time.Seconds() * float64(o.Rate))
	times, errs := make([]time.Duration, n), make([]error, n)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(o.Rate))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			_, ok, err := c.Tag(ctx, catalogRepository, catalogTag, false)
			if err == nil && !ok {
				err = errors.New("the tag is not there")
			}
			times[i], errs[i] = time.Since(due), err
		})
	}
	wg.Wait()
	return times, errors.Join(errs...)
}
