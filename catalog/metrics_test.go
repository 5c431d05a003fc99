package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gathered are the values of all metrics, by name and label.
func gathered(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var name strings.Builder
			name.WriteString(family.GetName())
			for _, label := range m.GetLabel() {
				name.WriteString(" " + label.GetValue())
			}
			values[name.String()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestMetricsShowTheCatalogAsItIs(t *testing.T) {
	bubble(t, 1, func(t *testing.T, n *fakeNetwork) {
		f := n.add("a", "")
		f.start()
		n.until(5*time.Second, "a catalog", func() bool { return f.set("k", "v") == nil })
		if err := f.push("r", "t", "x"); err != nil {
			t.Fatal(err)
		}
		n.reads("r", "t", "x")
		got := gathered(t, f.catalog.Collector())
		for name, want := range map[string]float64{
			"p2pd_catalog_leader": 1, "p2pd_catalog_voters": 1, "p2pd_catalog_tolerance_voters": 0,
			"p2pd_catalog_tags": 1, "p2pd_catalog_manifests": 1, "p2pd_catalog_digests": 2,
			"p2pd_catalog_state voter": 1, "p2pd_catalog_state no quorum": 0, "p2pd_catalog_state waiting for seeds": 0,
			"p2pd_catalog_request_seconds write": 3, "p2pd_catalog_request_seconds lease": 0, "p2pd_catalog_request_seconds read": 1,
		} {
			if got, ok := got[name]; !ok || got != want {
				t.Errorf("%s = %v, %v; want %v", name, got, ok, want)
			}
		}
		if got["p2pd_catalog_applied_index"] == 0 || got["p2pd_catalog_applied_index"] > got["p2pd_catalog_commit_index"] {
			t.Errorf("applied %v, commit %v", got["p2pd_catalog_applied_index"], got["p2pd_catalog_commit_index"])
		}
	})
}
