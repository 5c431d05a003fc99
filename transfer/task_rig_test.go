package transfer

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/ring"
)

const rigMiB = 1 << 20

// A rig is an engine with a store on disk, an upstream in memory, and no other node.
type rig struct {
	*Engine
	store *blobstore.Store
	up    *rigUpstream
}

// newRig makes a rig whose configuration change may bend. A store that has a limit of its own tells it to its log.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, blobstore.Default(t.TempDir()), slog.New(slog.DiscardHandler), change)
}

func newRigOn(t *testing.T, disk blobstore.Config, log *slog.Logger, change func(*Config)) *rig {
	t.Helper()
	opened, err := blobstore.Open(disk, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	cfg := Default()
	cfg.Self = Node{ID: "self", Boot: "boot", Address: "127.0.0.1:1"}
	if change != nil {
		change(&cfg)
	}
	up := &rigUpstream{blobs: make(map[oci.Digest][]byte)}
	e, err := New(cfg, Parts{Store: opened, Directory: rigDirectory{}, Upstream: up, Documents: up}, log)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{e, opened, up}
}

// run lets the engine work until the test ends.
func (r *rig) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var group sync.WaitGroup
	group.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	<-r.Started()
}

// idle is a task that nothing drives: what it does is what the test calls.
func (r *rig) idle(t *testing.T, d oci.Digest) *task {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	task := newTask(r.Engine, Want{Digest: d}, cancel)
	r.mu.Lock()
	r.ctx, r.tasks[d] = ctx, task
	r.mu.Unlock()
	t.Cleanup(func() {
		select {
		case <-task.ended:
		default:
			task.end(nil)
		}
		task.close()
		cancel()
		r.group.Wait()
		r.peers.close()
	})
	return task
}

// rigBlob makes n bytes and a list of them.
func rigBlob(n int) ([]byte, oci.Digest, *piece.List) {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(data)
	d := oci.FromBytes(oci.SHA256, data)
	return data, d, rigList(d, data, "issuer")
}

func rigList(d oci.Digest, data []byte, issuer string) *piece.List {
	l := piece.Issue(d, int64(len(data)), piece.SizeFor(int64(len(data))), issuer)
	h := piece.NewHasher(l)
	for i := range l.Count() {
		off, n := l.Bounds(i)
		_ = h.Piece(data[off : off+n])
	}
	return l
}

// rigPush is a message that pushes piece i of data.
func rigPush(d oci.Digest, l *piece.List, data []byte, i int) *bulk.Message {
	id := l.ID()
	off, n := l.Bounds(i)
	return &bulk.Message{
		Head: &transferpb.PushRequest{Digest: d.String(), List: id[:], Piece: int32(i), Node: "owner"},
		Data: mem.BufferSlice{mem.SliceBuffer(data[off : off+n])},
	}
}

// A rigUpstream has blobs in memory. Of a blob in stuck it gives the first bytes only, until the answer is closed.
type rigUpstream struct {
	mu    sync.Mutex
	blobs map[oci.Digest][]byte
	stuck map[oci.Digest]int
}

func (u *rigUpstream) Blob(_ context.Context, _ oci.Repository, d oci.Digest, off, n int64) (Body, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	data, ok := u.blobs[d]
	if !ok {
		return Body{}, oci.ErrNotFound
	}
	end := int64(len(data))
	if n >= 0 {
		end = off + n
	}
	body := &rigBody{Reader: bytes.NewReader(data[off:end]), closed: make(chan struct{})}
	if most, ok := u.stuck[d]; ok {
		body.Reader, body.hangs = bytes.NewReader(data[off:max(off, min(end, int64(most)))]), true
	}
	return Body{ReadCloser: body, End: end, Size: int64(len(data))}, nil
}

func (u *rigUpstream) StatBlob(_ context.Context, _ oci.Repository, d oci.Digest) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int64(len(u.blobs[d])), nil
}

func (u *rigUpstream) Document(context.Context, Question) (Answer, error) {
	return Answer{}, oci.ErrNotFound
}

type rigBody struct {
	io.Reader
	hangs  bool
	once   sync.Once
	closed chan struct{}
}

func (b *rigBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.hangs {
		<-b.closed
	}
	return n, err
}

func (b *rigBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// A rigDirectory is a farm of one.
type rigDirectory struct{}

func (rigDirectory) View() *ring.View {
	return ring.NewBuilder(64).Update([]ring.Member{{ID: "self", Egress: true}})
}
func (rigDirectory) Lookup(string) (Node, bool) { return Node{}, false }
func (rigDirectory) Others() []Node             { return nil }
func (rigDirectory) Observe(string, uint64)     {}
func (rigDirectory) Snapshot() []byte           { return nil }
func (rigDirectory) Merge([]byte)               {}
