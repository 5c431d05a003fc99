package trust

import "github.com/prometheus/client_golang/prometheus"

// Collector shows to Prometheus who was refused and how this node stands.
func (t *Trust) Collector() prometheus.Collector {
	name := func(what string) string { return prometheus.BuildFQName("p2pd", "trust", what) }
	return &collector{
		trust:       t,
		refused:     prometheus.NewDesc(name("refused_total"), "Connections and requests that were refused, by reason.", []string{"reason"}, nil),
		expiry:      prometheus.NewDesc(name("certificate_expiry_seconds"), "When this node's certificate runs out, in Unix time. Absent without one.", nil, nil),
		connections: prometheus.NewDesc(name("connections"), "Connections with members that are open.", nil, nil),
		handshakes:  prometheus.NewDesc(name("handshakes"), "Handshakes of incoming connections that are being done.", nil, nil),
		epoch:       prometheus.NewDesc(name("epoch"), "Epoch of what this node knows the farm to have agreed on.", nil, nil),
	}
}

type collector struct {
	trust                                           *Trust
	refused, expiry, connections, handshakes, epoch *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.refused, c.expiry, c.connections, c.handshakes, c.epoch} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	t := c.trust
	for why, n := range t.refused.counts {
		ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(n.Load()), string(why))
	}
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	if cert := t.Certificate(); cert != nil {
		gauge(c.expiry, float64(cert.NotAfter.Unix()))
	}
	gauge(c.connections, float64(t.open.size()))
	gauge(c.handshakes, float64(t.peers.count()+t.door.count()))
	gauge(c.epoch, float64(t.view.Load().Epoch))
}
