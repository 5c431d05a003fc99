package transfer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/internal/certs"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// spent is the processor time of this process.
func spent(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

const (
	benchBytes = 256 << 20
	benchPiece = 1 << 20
)

// pieceServer answers every call with a piece of a file, read as an engine reads it.
func pieceServer(b *testing.B, e *Engine, f *os.File, l net.Listener) {
	handle := func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		q := &transferpb.PieceRequest{}
		if err := decode(q); err != nil {
			return nil, err
		}
		buf := e.buffer(benchPiece)
		if _, err := f.ReadAt(*buf, int64(q.GetPiece())*benchPiece); err != nil {
			return nil, err
		}
		return &bulk.Message{Head: &transferpb.PieceReply{}, Data: mem.BufferSlice{mem.NewBuffer(buf, bufferPool{e})}}, ctx.Err()
	}
	s := grpc.NewServer(e.ServerOptions()...)
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Piece", Handler: handle}}}, e)
	served := make(chan error, 1)
	go func() { served <- s.Serve(Listener(l)) }()
	b.Cleanup(func() {
		s.Stop()
		<-served
	})
}

func benchFile(b *testing.B) *os.File {
	path := filepath.Join(b.TempDir(), "blob")
	if err := os.WriteFile(path, make([]byte, benchBytes), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return f
}

// BenchmarkWire moves pieces of a file in the disk cache from one node to another without checking or keeping them, and
// the same file by HTTPS. Both ends are in this process.
func BenchmarkWire(b *testing.B) {
	a := authority(b)
	for _, safe := range []bool{false, true} {
		b.Run(fmt.Sprintf("grpc/tls=%t", safe), func(b *testing.B) { benchCalls(b, a, safe) })
	}
	b.Run("https", func(b *testing.B) { benchHTTPS(b, a) })
}

func benchCalls(b *testing.B, a *certs.Authority, safe bool) {
	f, l := benchFile(b), listenTCP(b)
	e := &Engine{cfg: Default(), peers: newPeers(nil)}
	p := newPeers(nil)
	if safe {
		e.peers.sealer, p.sealer = insider(b, a, "server"), insider(b, a, "client")
	}
	pieceServer(b, e, f, l)
	b.Cleanup(p.close)
	c, err := p.to(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	get := func(from, to int) error {
		g, ctx := errgroup.WithContext(b.Context())
		g.SetLimit(8)
		for i := from; i < to; i++ {
			g.Go(func() error {
				m := &bulk.Message{Head: &transferpb.PieceReply{}}
				if err := c.conn.Invoke(ctx, "/bench/Piece", &transferpb.PieceRequest{Piece: int32(i)}, m); err != nil {
					return err
				}
				defer m.Free()
				if m.Data.Len() != benchPiece {
					return fmt.Errorf("piece of %d bytes", m.Data.Len())
				}
				return nil
			})
		}
		return g.Wait()
	}
	timed(b, get)
}

func timed(b *testing.B, get func(from, to int) error) {
	b.Helper()
	if err := get(0, 8); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchBytes)
	before := spent(b)
	for b.Loop() {
		if err := get(0, benchBytes/benchPiece); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((spent(b)-before).Seconds()*(1<<30)/benchBytes/float64(b.N), "CPU-s/GiB")
}

func benchHTTPS(b *testing.B, a *certs.Authority) {
	f := benchFile(b)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own, err := os.Open(f.Name())
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer func() { _ = own.Close() }()
		http.ServeContent(w, r, "", time.Time{}, own)
	}))
	cert, err := a.Certificate("server")
	if err != nil {
		b.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	s.StartTLS()
	defer s.Close()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Roots(), MinVersion: tls.VersionTLS13}}}
	defer c.CloseIdleConnections()
	buf := make([]byte, 256<<10)
	timed(b, func(from, to int) error {
		q, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			return err
		}
		q.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from*benchPiece, to*benchPiece-1))
		r, err := c.Do(q)
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, buf)
		if err == nil && n != int64(to-from)*benchPiece {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}
