package registryapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the door does. Labels are the kind of request and the status code, never a name or a digest.
type metrics struct {
	requests  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	inFlight  prometheus.Gauge
	firstByte *prometheus.HistogramVec

	// The children of the most common answers, looked up once.
	ok        [kindCount]prometheus.Counter
	sent      [kindCount]prometheus.Counter
	firstSeen [kindCount]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "p2pd_registryapi_requests_total",
			Help: "Requests of clients that have ended, by kind and status code (aborted: body cut off; gone: the client left first).",
		}, []string{"kind", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "p2pd_registryapi_bytes_total",
			Help: "Bytes of bodies sent to clients, by kind.",
		}, []string{"kind"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "p2pd_registryapi_in_flight_requests",
			Help: "Requests of clients being answered now.",
		}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "p2pd_registryapi_first_byte_seconds",
			Help:    "Time from a request's header to the header of its answer, by kind.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10},
		}, []string{"kind"}),
	}
	for k := range kindCount {
		m.ok[k] = m.requests.WithLabelValues(k.String(), "200")
		m.sent[k] = m.bytes.WithLabelValues(k.String())
		m.firstSeen[k] = m.firstByte.WithLabelValues(k.String())
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.bytes, m.inFlight, m.firstByte} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// ended counts a response.
func (m *metrics) ended(w *response) {
	code := w.code()
	if w.status == http.StatusOK && code == "200" {
		m.ok[w.kind].Inc()
	} else {
		m.requests.WithLabelValues(w.kind.String(), code).Inc()
	}
	if w.status != 0 {
		m.firstSeen[w.kind].Observe(w.first.Seconds())
	}
}
