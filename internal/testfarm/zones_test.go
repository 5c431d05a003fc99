package testfarm_test

import (
	"testing"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
)

func TestWhatAZoneHasDoesNotCrossIntoItAgain(t *testing.T) {
	t.Parallel()
	const size, zones = 48 * mib, 2
	f := testfarm.Start(t, testfarm.Options{Nodes: 6, Change: func(i int, c *node.Config) {
		c.Zone = []string{"a", "b"}[i%zones]
	}})
	d := put(t, f, 77, size, "library/app")
	slow(f, d, 16*mib) // the nodes outrun the upstream, as they do in a datacenter
	pullAt(t, "library/app", d, f.Nodes...)
	var crossing int64
	for _, n := range f.Nodes {
		crossing += n.Transfer().CrossZoneBytes
	}
	if got := float64(crossing) / size / (zones - 1); got > 1.1 {
		t.Errorf("%.3f times the blob crossed between %d zones; want at most 1.1 times for each zone but one", got, zones)
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}
