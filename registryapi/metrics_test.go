package registryapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pullonce/pullonce/oci"
)

func TestRequestsAndBytesAreCounted(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	reg := prometheus.NewPedanticRegistry()
	door := newDoor(t, testConfig(), registry, reg)
	do := func(method, path string, header ...string) {
		r := httptest.NewRequest(method, path, nil)
		r.Host = "localhost"
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		door.ServeHTTP(httptest.NewRecorder(), r)
	}
	blob := "/v2/library/app/blobs/" + img.layers[0].Digest.String()
	do("GET", "/v2/library/app/manifests/1")
	do("GET", "/v2/library/app/manifests/missing")
	do("GET", blob)
	do("GET", blob, "Range", "bytes=0-99")
	do("HEAD", blob)
	do("PUT", blob)
	left, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(left, "GET", "/v2/library/app/manifests/1", nil)
	r.Host = "localhost"
	door.ServeHTTP(httptest.NewRecorder(), r)

	wantCounted(t, reg, map[string]float64{
		"p2pd_registryapi_requests_total,200,blob": 2, "p2pd_registryapi_requests_total,206,blob": 1,
		"p2pd_registryapi_requests_total,200,manifest": 1, "p2pd_registryapi_requests_total,404,manifest": 1,
		"p2pd_registryapi_requests_total,gone,manifest": 1, "p2pd_registryapi_requests_total,405,other": 1,
		"p2pd_registryapi_requests_total,200,tags": 0, "p2pd_registryapi_in_flight_requests": 0,
		"p2pd_registryapi_bytes_total,blob": float64(img.layers[0].Size + 100), "p2pd_registryapi_first_byte_seconds,blob": 3,
	})
}

func TestABodyThatIsCutOffIsCounted(t *testing.T) {
	b := &scripted{size: 6, closed: make(chan struct{}), write: func(_ context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "scr"); err != nil {
			return err
		}
		return oci.ErrUnavailable
	}}
	registry, path := withBlob(b)
	reg := prometheus.NewPedanticRegistry()
	door := newDoor(t, testConfig(), registry, reg)
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "localhost"
	func() {
		defer func() {
			if got := recover(); got != any(http.ErrAbortHandler) {
				t.Errorf("a body that failed ended with %v; want the connection aborted", got)
			}
		}()
		door.ServeHTTP(httptest.NewRecorder(), r)
	}()
	wantCounted(t, reg, map[string]float64{
		"p2pd_registryapi_requests_total,aborted,blob": 1, "p2pd_registryapi_requests_total,200,blob": 0,
		"p2pd_registryapi_bytes_total,blob": 3,
	})
}

// wantCounted compares metrics, written as their name and their labels' values; of a histogram the count.
func wantCounted(t *testing.T, reg prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var name strings.Builder
			name.WriteString(family.GetName())
			for _, label := range m.GetLabel() {
				name.WriteString("," + label.GetValue())
			}
			got[name.String()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, value := range want {
		if counted, ok := got[name]; !ok || counted != value {
			t.Errorf("%s is %v (there: %t); want %v", name, counted, ok, value)
		}
	}
}
