package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/certs"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
	"github.com/pullonce/pullonce/transfer"
)

// safeCommand has this program be a node that is nothing but its transfer over TLS, in a process of its own, with
// ServeContent by HTTPS beside it: it takes orders on its standard input, a JSON text each, and answers each with one.
const safeCommand = "serve-safe"

// The two nodes.
const holderID, takerID = "holder", "taker"

// A safeConfig is the first thing that such a node reads.
type safeConfig struct {
	Node, Dir string
	Key       []byte // of the authority
	Blob      string // its path, at the holder
	Digest    string
	Size      int64
	Holder    safePlace // at the taker
}

// A safePlace is where a node is.
type safePlace struct{ Peer, URL string }

// A safeOrder is something to do: "engine" has the node fetch the blob as nodes do, "pieces" asks for its pieces as nodes do
// and throws them away, "https" reads it and throws it away, "https, kept" checks it and writes it to a file, "hash"
// hashes as many bytes, and "write" writes as many.
type safeOrder struct{ Do string }

// A safeReply is what came of it.
type safeReply struct {
	Error string
	Took  time.Duration
	Place safePlace
}

// A safeNode is one of the two.
type safeNode struct {
	cfg       safeConfig
	digest    oci.Digest
	authority *certs.Authority
	engine    *transfer.Engine
	store     *blobstore.Store
	peer, web net.Listener
}

func serveSafe(ctx context.Context, stdin io.Reader, stdout io.Writer) (err error) {
	debug.SetGCPercent(gcPercent)
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	n := &safeNode{}
	if err := in.Decode(&n.cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if n.digest, err = oci.ParseDigest(n.cfg.Digest); err != nil {
		return err
	}
	if n.authority, err = certs.FromKey(n.cfg.Key); err != nil {
		return err
	}
	if err := n.open(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	<-n.engine.Started()
	if err = out.Encode(safeReply{Place: n.place()}); err == nil {
		err = n.obey(ctx, in, out)
	}
	stop()
	return errors.Join(err, <-ended, n.store.Close())
}

func (n *safeNode) place() safePlace {
	return safePlace{n.peer.Addr().String(), "https://" + n.web.Addr().String() + "/"}
}

func (n *safeNode) open(ctx context.Context) (err error) {
	door := net.ListenConfig{Control: transfer.SocketOptions}
	if n.peer, err = door.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	if n.web, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	disk := blobstore.Default(filepath.Join(n.cfg.Dir, n.cfg.Node))
	disk.Issuer = n.cfg.Node
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if n.store, err = blobstore.Open(disk, log); err != nil {
		return err
	}
	member, err := n.authority.Member(n.cfg.Node, transfer.ProtocolCalls, transfer.ProtocolStream)
	if err != nil {
		return err
	}
	cfg := transfer.Default()
	cfg.Self = transfer.Node{ID: n.cfg.Node, Boot: "1", Address: n.peer.Addr().String()}
	n.engine, err = transfer.New(cfg, transfer.Parts{
		Store: n.store, Directory: safeRing{n}, Upstream: safeUpstream{n}, Documents: safeUpstream{n}, Secure: member,
	}, log)
	return err
}

// run serves until ctx ends.
func (n *safeNode) run(ctx context.Context) error {
	server := grpc.NewServer(n.engine.ServerOptions()...)
	n.engine.Attach(server)
	cert, err := n.authority.Certificate(n.cfg.Node)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler: http.HandlerFunc(n.serveContent), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
	}
	var g errgroup.Group
	g.Go(func() error { _ = n.engine.Run(ctx); return nil })
	g.Go(func() error { _ = n.store.Run(ctx); return nil })
	g.Go(func() error { return server.Serve(transfer.Listener(n.peer)) })
	g.Go(func() error {
		if err := web.ServeTLS(n.web, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	<-ctx.Done()
	server.Stop()
	return errors.Join(web.Close(), g.Wait())
}

func (n *safeNode) serveContent(w http.ResponseWriter, r *http.Request) {
	file, err := os.Open(n.cfg.Blob)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer func() { _ = file.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, file)
}

// obey carries out orders until there are no more.
func (n *safeNode) obey(ctx context.Context, in *json.Decoder, out *json.Encoder) error {
	do := map[string]func(context.Context) error{
		"engine": n.fetch, "pieces": n.pieces, "hash": n.hash, "write": n.write,
		"https":       func(ctx context.Context) error { return n.get(ctx, io.Discard) },
		"https, kept": n.getKept,
	}
	for {
		var order safeOrder
		if err := in.Decode(&order); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var reply safeReply
		start := time.Now()
		err := fmt.Errorf("order %q is not known", order.Do)
		if f := do[order.Do]; f != nil {
			err = f(ctx)
		}
		if err != nil {
			reply.Error = err.Error()
		}
		reply.Took = time.Since(start)
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
}

// fetch has the engine get the blob, as for a client that reads nothing, until it is safe in the store.
func (n *safeNode) fetch(ctx context.Context) error {
	h, err := n.engine.Get(transfer.Want{Repository: safeRepository, Digest: n.digest, Size: n.cfg.Size})
	if err != nil {
		return err
	}
	err = h.Done(ctx)
	for err == nil {
		if _, err := n.store.Stat(n.digest); err == nil {
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return errors.Join(err, h.Close())
}

// hash hashes as many bytes as the blob has.
func (n *safeNode) hash(context.Context) error {
	b, sum := make([]byte, mib), sha256.New()
	for left := n.cfg.Size; left > 0; left -= mib {
		_, _ = sum.Write(b)
	}
	sum.Sum(nil)
	return nil
}

// write writes as many bytes as the blob has to a file.
func (n *safeNode) write(context.Context) (err error) {
	file, err := os.Create(filepath.Join(n.cfg.Dir, "written"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	b := make([]byte, mib)
	for left := n.cfg.Size; left > 0; left -= mib {
		if _, err := file.Write(b); err != nil {
			return err
		}
	}
	return file.Sync()
}

// get reads the blob by HTTPS.
func (n *safeNode) get(ctx context.Context, to io.Writer) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.authority.Roots(), MinVersion: tls.VersionTLS13}, DisableCompression: true}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, n.cfg.Holder.URL, nil)
	if err != nil {
		return err
	}
	r, err := transport.RoundTrip(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	got, err := io.CopyBuffer(struct{ io.Writer }{to}, r.Body, make([]byte, 256<<10))
	if err == nil && got != n.cfg.Size {
		err = fmt.Errorf("GET %s: %d bytes; want %d", n.cfg.Holder.URL, got, n.cfg.Size)
	}
	return err
}

// getKept does by HTTPS what a node does: the bytes are checked, written to a file and synced.
func (n *safeNode) getKept(ctx context.Context) (err error) {
	file, err := os.Create(filepath.Join(n.cfg.Dir, "kept"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	sum := sha256.New()
	if err := n.get(ctx, io.MultiWriter(sum, file)); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != n.digest.Hex() {
		return fmt.Errorf("GET %s: digest %s; want %s", n.cfg.Holder.URL, got, n.digest.Hex())
	}
	return file.Sync()
}

var safeRepository = oci.Repository{Upstream: oci.DockerHub, Path: repo}

// A safeUpstream gives the blob to the holder, and nothing to the taker.
type safeUpstream struct{ n *safeNode }

func (u safeUpstream) Blob(_ context.Context, _ oci.Repository, _ oci.Digest, off, n int64) (transfer.Body, error) {
	if u.n.cfg.Blob == "" {
		return transfer.Body{}, oci.ErrNotFound
	}
	file, err := os.Open(u.n.cfg.Blob)
	if err != nil {
		return transfer.Body{}, err
	}
	if n < 0 {
		n = u.n.cfg.Size - off
	}
	part := struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, off, n), file}
	return transfer.Body{ReadCloser: part, End: off + n, Size: u.n.cfg.Size}, nil
}

func (u safeUpstream) StatBlob(context.Context, oci.Repository, oci.Digest) (int64, error) {
	if u.n.cfg.Blob == "" {
		return 0, oci.ErrNotFound
	}
	return u.n.cfg.Size, nil
}

// Document is asked whether the repository has the blob.
func (u safeUpstream) Document(context.Context, transfer.Question) (transfer.Answer, error) {
	if u.n.cfg.Blob == "" {
		return transfer.Answer{}, oci.ErrNotFound
	}
	return transfer.Answer{Digest: u.n.digest, Size: u.n.cfg.Size}, nil
}

// A safeRing has the holder alone as a member, so that it owns the blob.
type safeRing struct{ n *safeNode }

func (safeRing) View() *ring.View {
	return ring.NewBuilder(64).Update([]ring.Member{{ID: holderID, Egress: true}})
}

func (r safeRing) Lookup(id string) (transfer.Node, bool) {
	return transfer.Node{ID: holderID, Address: r.n.cfg.Holder.Peer}, id == holderID && r.n.cfg.Node != holderID
}

func (r safeRing) Others() []transfer.Node {
	if h, ok := r.Lookup(holderID); ok {
		return []transfer.Node{h}
	}
	return nil
}

func (safeRing) Observe(string, uint64) {}
func (safeRing) Snapshot() []byte       { return nil }
func (safeRing) Merge([]byte)           {}
