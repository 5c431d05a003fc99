package testfarm_test

import (
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

// TestPullsStayOnceWithAHostedCatalogWhileRingsDisagree has halves of a farm cut their rings into different numbers of partitions,
// so that they never agree on who owns what: each blob is still read once, by who has its lease.
func TestPullsStayOnceWithAHostedCatalogWhileRingsDisagree(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2, Change: testfarm.Hosting})
	for i := range 2 {
		f.Add(func(c *node.Config) {
			testfarm.Hosting(2+i, c)
			c.Partitions = 1021
		})
	}
	for _, n := range f.Nodes {
		f.Eventually("a ring with all nodes", func() bool { _, members := n.Ring(); return members == 4 })
	}
	f.SettleCatalog(f.Nodes...)
	one, _ := f.Nodes[0].Ring()
	if other, _ := f.Nodes[3].Ring(); one == other {
		t.Fatal("the rings agree; want two")
	}
	const size, count = 3*mib + 5, 12
	var blobs []oci.Digest
	for i := range uint64(count) {
		d := put(t, f, 9000+i, size, "library/leased")
		slow(f, d, 6*mib) // long enough for all to come while it is read
		blobs = append(blobs, d)
	}
	var pulls []func() error
	for _, d := range blobs {
		for _, n := range f.Nodes {
			pulls = append(pulls, func() error { return n.Pull(t.Context(), "library/leased", d) })
		}
	}
	atOnce(t, pulls...)
	total := int64(0)
	for _, d := range blobs {
		total += crossed(f, d)
	}
	if total != size*count {
		t.Errorf("upstream sent %d bytes, %.2f times what there is; want each byte once", total, float64(total)/size/count)
	}
	if got := f.Sum(`p2pd_catalog_request_seconds_count{kind="lease"}`); got == 0 {
		t.Error("no lease was taken")
	}
}
