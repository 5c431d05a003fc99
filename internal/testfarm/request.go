package testfarm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A Reply is an answer of a node's registry door, read to its end.
type Reply struct {
	Status int
	Header http.Header
	Size   int64  // bytes of the body that arrived
	Sum    string // sha256 of them, in hex
	Body   []byte // the first of them, up to 64 KiB
	Err    error  // why the body ended early, if it did
	First  time.Duration
	Took   time.Duration
}

// maxKept is how much of a body a Reply keeps.
const maxKept = 64 << 10

// Ask sends one request to a path under /v2/ and reads the answer to its end. Headers come in pairs of name and value.
func (n *Node) Ask(ctx context.Context, method, path string, header ...string) Reply {
	return n.Send(ctx, method, path, nil, header...)
}

// Send is Ask with a body, which goes in parts, its length untold, unless it is of a type such as *bytes.Reader. The
// path may be a whole one, such as a Location.
func (n *Node) Send(ctx context.Context, method, path string, body io.Reader, header ...string) Reply {
	if !strings.HasPrefix(path, "/v2/") {
		path = "/v2/" + path
	}
	q, err := http.NewRequestWithContext(ctx, method, n.URL()+path, body)
	if err != nil {
		return Reply{Err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Add(header[i], header[i+1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}
	start := time.Now()
	r, err := transport.RoundTrip(q)
	if err != nil {
		return Reply{Err: err, Took: time.Since(start)}
	}
	defer func() { _ = r.Body.Close() }()
	reply := Reply{Status: r.StatusCode, Header: r.Header, First: time.Since(start)}
	sum := sha256.New()
	kept := &head{}
	reply.Size, reply.Err = io.Copy(io.MultiWriter(sum, kept), r.Body)
	reply.Sum, reply.Body, reply.Took = hex.EncodeToString(sum.Sum(nil)), kept.data, time.Since(start)
	return reply
}

// A head keeps the first bytes that are written to it.
type head struct{ data []byte }

func (h *head) Write(b []byte) (int, error) {
	h.data = append(h.data, b[:min(len(b), maxKept-len(h.data))]...)
	return len(b), nil
}

// Pull reads a whole blob through the node; the error says what was wrong with it.
func (n *Node) Pull(ctx context.Context, repo string, d fmt.Stringer) error {
	r := n.Ask(ctx, http.MethodGet, repo+"/blobs/"+d.String())
	switch {
	case r.Err != nil:
		return fmt.Errorf("GET %s at %s: status %d, %d bytes, then %w", d, n.ID(), r.Status, r.Size, r.Err)
	case r.Status != http.StatusOK:
		return fmt.Errorf("GET %s at %s: status %d: %s", d, n.ID(), r.Status, r.Body)
	case "sha256:"+r.Sum != d.String():
		return fmt.Errorf("GET %s at %s: a complete answer of %d bytes that are wrong: sha256:%s", d, n.ID(), r.Size, r.Sum)
	}
	return nil
}
