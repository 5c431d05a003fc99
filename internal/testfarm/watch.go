package testfarm

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/ring"
)

// Status is what the node says of itself to operators.
func (n *Node) Status() (adminapi.NodeStatus, error) {
	n.farm.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.farm.t.Context()), 5*time.Second)
	defer cancel()
	return n.Admin().Node(ctx, 5*time.Second)
}

// MustStatus is Status for a node that runs.
func (n *Node) MustStatus() adminapi.NodeStatus {
	n.farm.t.Helper()
	s, err := n.Status()
	if err != nil {
		n.farm.t.Fatalf("status of %s: %v", n.ID(), err)
	}
	return s
}

// Metric is the value of a metric as Prometheus would read it, with all its labels together.
func (n *Node) Metric(name string) float64 {
	n.farm.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.Config.AdminSocket)
		},
	}}
	q, err := http.NewRequestWithContext(n.farm.t.Context(), http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		n.farm.t.Fatal(err)
	}
	r, err := client.Do(q)
	if err != nil {
		n.farm.t.Fatalf("metrics of %s: %v", n.ID(), err)
	}
	defer func() { _ = r.Body.Close() }()
	sum, found := 0.0, false
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "{") {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			n.farm.t.Fatalf("metric %s of %s: %v", name, n.ID(), err)
		}
		sum, found = sum+v, true
	}
	if !found {
		n.farm.t.Fatalf("node %s has no metric %s", n.ID(), name)
	}
	return sum
}

// Sum adds a metric up over the farm.
func (f *Farm) Sum(name string) float64 {
	f.t.Helper()
	sum := 0.0
	for _, n := range f.Nodes {
		sum += n.Metric(name)
	}
	return sum
}

// view is the ring of all nodes of the farm, made as they make it.
func (f *Farm) view() *ring.View {
	members := make([]ring.Member, 0, len(f.Nodes))
	for _, n := range f.Nodes {
		members = append(members, ring.Member{ID: n.ID(), Zone: n.Config.Zone, Egress: true})
	}
	return ring.NewBuilder(f.Nodes[0].Config.Partitions).Update(members)
}

// Owner is the node that the ring of the whole farm gives a digest to.
func (f *Farm) Owner(d oci.Digest) *Node { return f.byID(f.view().Owner(d)) }

// OwnerOfTag is the node that resolves a tag for the farm.
func (f *Farm) OwnerOfTag(repo oci.Repository, tag string) *Node {
	return f.byID(f.view().OwnerOf(repo.String() + ":" + tag))
}

// Successor is the node that owns a blob once its owner is gone.
func (f *Farm) Successor(d oci.Digest) *Node {
	return f.byID(f.view().OwnerWithout(d, f.view().Owner(d)))
}

func (f *Farm) byID(id string) *Node {
	f.t.Helper()
	for _, n := range f.Nodes {
		if n.ID() == id {
			return n
		}
	}
	f.t.Fatalf("no node of the farm is %q", id)
	return nil
}

// Others are the nodes of the farm but those named.
func (f *Farm) Others(but ...*Node) []*Node {
	var out []*Node
next:
	for _, n := range f.Nodes {
		for _, b := range but {
			if n == b {
				continue next
			}
		}
		out = append(out, n)
	}
	return out
}

// Eventually waits until ok tells that something has come about, and fails the test when it does not within a limit
// that only a broken node needs.
func (f *Farm) Eventually(what string, ok func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s did not come about within 20 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
