package transfer

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// eventually waits until ok, for a while.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// inUse is how many slots and bytes are taken by pieces on their way.
func (r *rig) inUse(task *task) (slots int, bytes int64) {
	task.mu.Lock()
	defer task.mu.Unlock()
	task.slots.empty(task.uploads)
	return task.uploads.Load(), r.sending.Load()
}

// door serves a rig on a socket of the kernel's.
func (r *rig) door(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(r.ServerOptions()...)
	r.Attach(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

// plugged is a connection that nobody reads from after so many bytes.
type plugged struct {
	net.Conn
	left int
	shut chan struct{}
}

func (p *plugged) Read(b []byte) (int, error) {
	if p.left <= 0 {
		<-p.shut
		return 0, net.ErrClosed
	}
	n, err := p.Conn.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

func TestAConnectionThatDiesGivesItsSlotsBack(t *testing.T) {
	data, _, list := rigBlob(12 * rigMiB)
	r := newRig(t, func(c *Config) { c.UploadSlots = 16 })
	task, _ := r.full(t, data, list, "a")
	address := r.door(t)
	for range 3 {
		var socket net.Conn
		shut := make(chan struct{})
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				var err error
				socket, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
				return &plugged{Conn: socket, left: 256 << 10, shut: shut}, err
			}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range list.Count() {
			go func() {
				q := rigRequest(list, "a", i)
				q.Lone = true
				_ = conn.Invoke(ctx, transferpb.Transfer_Piece_FullMethodName, q, &transferpb.PieceReply{})
			}()
		}
		eventually(t, "pieces on their way", func() bool { n, _ := r.inUse(task); return n >= 6 })
		_ = socket.(*net.TCPConn).SetLinger(0)
		_ = socket.Close()
		eventually(t, "all given back", func() bool { n, b := r.inUse(task); return n == 0 && b == 0 })
		close(shut)
		cancel()
		_ = conn.Close()
	}
}
