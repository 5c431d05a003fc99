package copies

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

func TestSumsStandForSets(t *testing.T) {
	var x, y sum
	var all []oci.Digest
	for i := range uint64(100) {
		all = append(all, oci.FromBytes(oci.SHA256, data(i, 10)))
	}
	for i := range all {
		x.add(blobSum(all[i]))
		y.add(blobSum(all[len(all)-1-i]))
	}
	if x != y {
		t.Errorf("sums of one set = %v and %v; want the same", x, y)
	}
	y.add(blobSum(oci.FromBytes(oci.SHA256, nil)))
	if x.hash == y.hash {
		t.Error("one more blob does not change the sum")
	}
	if got := blobSum(oci.FromBytes(oci.SHA256, nil)); got != (sum{1, 0xb5263dc5bdba02a}) {
		t.Errorf("sum of the empty blob = %#x; what nodes say to each other must not change", got)
	}
}

func TestComparisonsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b")
		time.Sleep(2 * time.Second)
		client, err := all["a"].client(Node{ID: "b", Address: "b"})
		if err != nil {
			t.Fatal(err)
		}
		ring, _ := all["a"].view.Ring()
		for name, q := range map[string]*copiespb.CompareRequest{
			"digests":    {Digests: make([]string, maxCompared+1)},
			"summaries":  {Summaries: make([]*copiespb.CompareRequest_Summary, maxSummaries+1)},
			"no digests": {Digests: []string{"x"}},
		} {
			q.RingHash = ring
			if _, err := client.Compare(t.Context(), q); status.Code(err) != codes.InvalidArgument {
				t.Errorf("Compare with wrong %s = %v; want InvalidArgument", name, err)
			}
		}
		r, err := client.Compare(t.Context(), &copiespb.CompareRequest{RingHash: ring + 1, Digests: []string{"x"}})
		if err != nil || r.GetRingHash() != ring || r.GetAll() != nil {
			t.Errorf("Compare by another ring = %v, %v; want the ring alone", r, err)
		}
	})
}

// A difference that stays, such as garbage, is not listed again and again.
func TestADifferenceThatStaysCostsOneSmallMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, func(c *Config) { c.idle = true })
		all := v.build("a", "b")
		for i := range uint64(300) {
			v.has(data(i, 10), all["a"])
		}
		time.Sleep(30 * time.Second)
		_, before := v.callsOf("Compare")
		time.Sleep(5 * time.Minute)
		if _, bytes := v.callsOf("Compare"); bytes-before > 5*64*2 {
			t.Errorf("%d bytes in 5 minutes; want small messages only", bytes-before)
		}
	})
}
