package testfarm_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/trust"
)

// trusted makes a farm whose first node founds its trust, and whose others join by one token.
func trusted(t *testing.T, nodes int) *testfarm.Farm {
	t.Helper()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { c.Trust.Mode = trust.Auto }})
	f.SettleCatalog(f.Nodes...)
	for range nodes - 1 {
		joined(t, f)
	}
	f.Settle()
	return f
}

// joined adds a node that joins by a token of its own.
func joined(t *testing.T, f *testfarm.Farm) *testfarm.Node {
	t.Helper()
	token, err := f.Nodes[0].Admin().CreateToken(t.Context(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	return f.Add(func(c *node.Config) { c.Trust.Mode, c.Trust.Token = trust.Auto, token.Token })
}

func TestATrustedFarmPullsOnce(t *testing.T) {
	t.Parallel()
	f := trusted(t, 3)
	i := image(t, f, 5000, "library/trusted", "latest", 20<<20)
	for _, n := range f.Nodes {
		manifestAt(t, n, "library/trusted", i)
		if got := status(t, n, http.MethodGet, "library/trusted/blobs/"+i.Layers[0].Digest.String()); got != http.StatusOK {
			t.Errorf("GET of a layer at %s = %d; want 200", n.ID(), got)
		}
		part := n.MustStatus().TrustPart
		if part == nil || part.Mode != "auto" || time.Until(part.CertificateEnd) < 29*24*time.Hour {
			t.Errorf("trust of %s = %+v; want mode auto and a certificate for 30 days", n.ID(), part)
		}
	}
	if got := crossed(f, i.Layers[0].Digest); got != i.Layers[0].Size {
		t.Errorf("%d bytes of a layer of %d crossed; want each once", got, i.Layers[0].Size)
	}
}
