package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/internal/peerid"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

const (
	streamProtocol  = 1
	maxPrefaceBytes = 4096
)

// A place is a replica's address in raft's configuration: its name and the node that it lives on. Where the node can be
// reached is looked up when a stream is opened, so a node may move.
func place(name, node string) raft.ServerAddress {
	return raft.ServerAddress(name + "@" + node)
}

func readPlace(a raft.ServerAddress) (name, node string) {
	name, node, _ = strings.Cut(string(a), "@")
	return name, node
}

// layer is raft's stream layer for one replica. Every stream begins with a preface, so that no replica ever talks to
// one of another catalog, nor to one that took the place of the replica it means.
type layer struct {
	catalog, name, node string
	farm                Farm
	dial                func(ctx context.Context, address string) (net.Conn, error)
	arrived             chan net.Conn
	closed              chan struct{}
	once                sync.Once

	mu    sync.Mutex
	conns map[*tracked]struct{}
}

func newLayer(catalog, name string, cfg Config, parts Parts) *layer {
	return &layer{
		catalog: catalog, name: name, node: cfg.Node, farm: parts.Farm, dial: parts.Dial,
		arrived: make(chan net.Conn), closed: make(chan struct{}), conns: map[*tracked]struct{}{},
	}
}

// tracked is a stream that ends with its layer.
type tracked struct {
	net.Conn
	layer *layer
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.conns, t)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}

// track makes c one of the layer's, or closes it when the layer is closed.
func (l *layer) track(c net.Conn) (net.Conn, error) {
	t := &tracked{Conn: c, layer: l}
	l.mu.Lock()
	alive := l.conns != nil
	if alive {
		l.conns[t] = struct{}{}
	}
	l.mu.Unlock()
	if !alive {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return t, nil
}

// Accept implements net.Listener.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return l.track(c)
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It ends all streams.
func (l *layer) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for t := range conns {
		_ = t.Conn.Close()
	}
	return nil
}

// Addr implements net.Listener: what raft calls this replica.
func (l *layer) Addr() net.Addr { return placeAddr(place(l.name, l.node)) }

type placeAddr raft.ServerAddress

func (placeAddr) Network() string  { return "catalog" }
func (a placeAddr) String() string { return string(a) }

// Dial implements raft.StreamLayer.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	name, node := readPlace(address)
	m, ok := l.farm.Lookup(node)
	if !ok || m.Address == "" {
		return nil, fmt.Errorf("open stream to %s: no such member", node)
	}
	ctx, cancel := l.context(timeout)
	defer cancel()
	c, err := l.dial(ctx, m.Address)
	if err != nil {
		return nil, fmt.Errorf("open stream to %s: %w", node, err)
	}
	if there, ok := c.(peerid.Holder); ok && there.PeerID() != node {
		_ = c.Close()
		return nil, fmt.Errorf("open stream to %s: %.64q is there", node, there.PeerID())
	}
	if err := l.greet(c, name, node, timeout); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open stream to %s: %w", node, err)
	}
	return l.track(c)
}

// context lasts for timeout, but no longer than the layer. Raft hands none in.
func (l *layer) context(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(closing{l.closed}, timeout)
	return ctx, cancel
}

// closing is a context that ends when a channel is closed.
type closing struct{ done <-chan struct{} }

func (closing) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c closing) Done() <-chan struct{}     { return c.done }
func (closing) Value(any) any               { return nil }
func (c closing) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func (l *layer) greet(c net.Conn, name, node string, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	preface := &catalogpb.Preface{
		Protocol: streamProtocol, Catalog: l.catalog, FromNode: l.node, FromRaft: l.name, ToNode: node, ToRaft: name,
	}
	if err := writeFrame(c, preface); err != nil {
		return err
	}
	reply := &catalogpb.PrefaceReply{}
	if err := readFrame(c, reply); err != nil {
		return err
	}
	if reply.GetRefusal() != "" {
		return fmt.Errorf("refused: %.200s", reply.GetRefusal())
	}
	return c.SetDeadline(time.Time{})
}

// refusal says why a stream with this preface is none of l's, or "". A nil layer has no replica.
func (l *layer) refusal(p *catalogpb.Preface) string {
	switch {
	case p.GetProtocol() != streamProtocol:
		return fmt.Sprintf("protocol %d is not spoken here", p.GetProtocol())
	case l == nil:
		return "no replica is kept here"
	case p.GetCatalog() != l.catalog:
		return "replica of another catalog"
	case p.GetToNode() != l.node || p.GetToRaft() != l.name:
		return "another replica took its place"
	}
	return ""
}

// receive reads the preface of a stream that arrived and hands it to the replica that find returns.
func receive(ctx context.Context, c net.Conn, timeout time.Duration, find func() *layer) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	preface := &catalogpb.Preface{}
	if err := readFrame(c, preface); err != nil {
		return err
	}
	l := find()
	refusal := l.refusal(preface)
	if caller, ok := c.(peerid.Holder); ok && caller.PeerID() != preface.GetFromNode() {
		refusal = fmt.Sprintf("%.64q is another node", preface.GetFromNode())
	}
	if err := writeFrame(c, &catalogpb.PrefaceReply{Refusal: refusal}); err != nil {
		return err
	}
	if refusal != "" {
		return fmt.Errorf("stream of %.64s: %s", preface.GetFromNode(), refusal)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case l.arrived <- c:
		return nil
	case <-l.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serveStreams takes streams until ctx ends or the listener is closed.
func (c *Catalog) serveStreams(ctx context.Context) error {
	var greeting sync.WaitGroup
	defer greeting.Wait()
	stop := context.AfterFunc(ctx, func() { _ = c.parts.Streams.Close() })
	defer stop()
	for {
		conn, err := c.parts.Streams.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			<-ctx.Done()
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept raft stream: %w", err)
		}
		greeting.Go(func() {
			if err := receive(ctx, conn, c.cfg.RPC, c.layer); err != nil {
				c.log.LogAttrs(ctx, slog.LevelDebug, "raft stream refused", slog.Any("error", err))
				_ = conn.Close()
			}
		})
	}
}

func writeFrame(w io.Writer, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(raw) > maxPrefaceBytes {
		return fmt.Errorf("preface of %d bytes", len(raw))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
	return err
}

func readFrame(r io.Reader, m proto.Message) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxPrefaceBytes {
		return fmt.Errorf("preface of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	return proto.Unmarshal(raw, m)
}
