package testfarm_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
)

// A reader is a client that reads as it pleases.
type reader struct {
	conn net.Conn
	body io.Reader
	r    *http.Response
}

// open asks for a blob and reads the headers. The socket takes little that is not read.
func open(t *testing.T, n *testfarm.Node, repo string, d fmt.Stringer) *reader {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", n.RegistryAddresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", repo, d)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReaderSize(conn, 4096), nil)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("GET %s = %v, %v; want 200", d, r, err)
	}
	return &reader{conn, r.Body, r}
}

// read reads so many bytes.
func (r *reader) read(t *testing.T, n int64) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, r.body, n); err != nil {
		t.Fatal(err)
	}
}

func TestAClientThatStallsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 16 * mib
	d := put(t, f, 200, size, "library/stalled")
	owner := f.Owner(d)
	var stalled []*reader
	for _, n := range []*testfarm.Node{owner, f.Others(owner)[0]} {
		r := open(t, n, "library/stalled", d)
		r.read(t, 1000)
		stalled = append(stalled, r)
	}
	start := time.Now()
	pullAt(t, "library/stalled", d, f.Nodes...)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("other clients took %v beside clients that stall; want what the upstream takes", took)
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
	for _, r := range stalled { // they go on where they were
		n, err := io.Copy(io.Discard, r.body)
		if err != nil || n != size-1000 {
			t.Errorf("a client that stalled got %d bytes more, %v; want %d", n, err, size-1000)
		}
	}
}

func TestASlowClientGetsTheRightBytesAndThrottlesNobody(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 12 * mib
	d := put(t, f, 201, size, "library/slow")
	first := open(t, f.Owner(d), "library/slow", d)
	sum := sha256.New()
	done := make(chan error, 1)
	go func() { // 2 MiB a second
		for {
			_, err := io.CopyN(sum, first.body, 128<<10)
			if err != nil {
				if err == io.EOF {
					err = nil
				}
				done <- err
				return
			}
			time.Sleep(60 * time.Millisecond)
		}
	}()
	pullAt(t, "library/slow", d, f.Nodes...)
	if len(done) > 0 {
		t.Error("fast clients took as long as the slow one, which came first")
	}
	if err := <-done; err != nil || "sha256:"+hex.EncodeToString(sum.Sum(nil)) != d.String() {
		t.Errorf("the slow client got wrong bytes, %v", err)
	}
}

func TestAClientThatVanishesEndsNobodysFetch(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 8 * mib
	d := put(t, f, 202, size, "library/vanished")
	slow(f, d, 8*mib)
	first := open(t, f.Owner(d), "library/vanished", d)
	first.read(t, 1)
	others := make(chan error, len(f.Nodes))
	for _, n := range f.Nodes {
		go func() { others <- n.Pull(t.Context(), "library/vanished", d) }()
	}
	first.read(t, mib)
	_ = first.conn.Close()
	for range f.Nodes {
		if err := <-others; err != nil {
			t.Error(err)
		}
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}

func TestAFetchThatNobodyWaitsForGoesOnOnlyIfItIsNearlyDone(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) {
		c.Transfer.Linger = 200 * time.Millisecond
	}})
	const size = 24 * mib
	n := f.Nodes[0]
	t.Run("let go", func(t *testing.T) {
		t.Parallel()
		d := put(t, f, 203, size, "library/left")
		slow(f, d, 6*mib)
		r := open(t, n, "library/left", d)
		r.read(t, 3*mib)
		_ = r.conn.Close()
		var last int64
		f.Eventually("the end of a fetch that nobody waits for", func() bool {
			last = crossed(f, d)
			time.Sleep(500 * time.Millisecond)
			return crossed(f, d) == last
		})
		if last > size*3/4 {
			t.Errorf("upstream went on to send %d bytes of %d for nobody", last, size)
		}
		if err := n.Pull(t.Context(), "library/left", d); err != nil {
			t.Error(err)
		}
		// What was on its way in the kernels and not yet a whole piece is lost.
		if got := crossed(f, d); got > size+6*mib {
			t.Errorf("upstream sent %d bytes of %d in all; want what had come before to be kept", got, size)
		}
	})
	t.Run("finished", func(t *testing.T) {
		t.Parallel()
		d := put(t, f, 204, size, "library/nearly")
		slow(f, d, 12*mib)
		r := open(t, n, "library/nearly", d)
		r.read(t, size*94/100)
		_ = r.conn.Close()
		f.Eventually("the blob", func() bool { return crossed(f, d) == size })
		if err := n.Pull(t.Context(), "library/nearly", d); err != nil {
			t.Error(err)
		}
		if got := crossed(f, d); got != size {
			t.Errorf("upstream sent %d bytes; want %d", got, size)
		}
	})
}

func TestTheFirstByteComesWhileTheRestIsStillUpstream(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 16 * mib
	d := put(t, f, 205, size, "library/first")
	slow(f, d, 4*mib) // 4 s in all, 250 ms a piece
	var asks []func() error
	for _, n := range f.Nodes {
		asks = append(asks, func() error {
			r := n.Ask(t.Context(), http.MethodGet, "library/first/blobs/"+d.String())
			if r.Err != nil || "sha256:"+r.Sum != d.String() || r.First > r.Took/2 {
				t.Errorf("GET at %s: first byte after %v of %v, %v; want it with the first piece", n.ID(), r.First, r.Took, r.Err)
			}
			return nil
		})
	}
	atOnce(t, asks...)
}

func TestAPullThatIsCutOffGoesOnWithARange(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	const size = 8*mib + 5
	data := randomBytes(206, size)
	d := put(t, f, 206, size, "library/resumed")
	for _, n := range f.Nodes {
		ctx, cancel := context.WithCancel(t.Context())
		r := open(t, n, "library/resumed", d)
		sum := sha256.New()
		if _, err := io.CopyN(sum, r.body, 3*mib+77); err != nil {
			t.Fatal(err)
		}
		_ = r.conn.Close()
		rest := n.Ask(ctx, http.MethodGet, "library/resumed/blobs/"+d.String(), "Range", fmt.Sprintf("bytes=%d-", 3*mib+77))
		cancel()
		want := sha256.Sum256(data[3*mib+77:])
		if rest.Status != http.StatusPartialContent || rest.Sum != hex.EncodeToString(want[:]) {
			t.Errorf("the rest of a pull = %d, %d bytes, %v; want 206 and the rest", rest.Status, rest.Size, rest.Err)
		}
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}
