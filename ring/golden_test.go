package ring_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/pullonce/pullonce/ring"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew (this moves every blob of every farm)")

// TestPlacementNeverChanges pins where blobs lie. A node of this release and one
// of the next must agree on it, so a failure here is no reason to run -update.
func TestPlacementNeverChanges(t *testing.T) {
	got := placement()
	if *update {
		if err := os.WriteFile("testdata/golden.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("placement has changed: got\n%s\nwant\n%s", got, want)
	}
}

func placement() string {
	var out strings.Builder
	for _, n := range []int{1, 2, 5, 50} {
		members := farm(n)
		if n == 5 {
			members[4].Egress = false
		}
		v := fresh(ring.DefaultPartitions, members)
		fmt.Fprintf(&out, "members %d hash %016x table %016x\n", n, v.Hash(),
			xxhash.Sum64String(strings.Join(owners(v), "\n")))
		for i := range 8 {
			d := digest(i)
			fmt.Fprintf(&out, "%s partition %d owner %s without it %q zone-1 %q\n", d, v.Partition(d), v.Owner(d),
				v.OwnerWithout(d, v.Owner(d)), v.ZoneOwner(d, "zone-1"))
		}
		fmt.Fprintf(&out, "docker.io/library/nginx:latest owner %s\n", v.OwnerOf("docker.io/library/nginx:latest"))
	}
	return out.String()
}
