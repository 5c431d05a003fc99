package main

import (
	"math"
	"testing"
	"time"
)

func TestMedianIsTheMiddleWhateverTheOrder(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		given := append([]float64(nil), c.values...)
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v; want %v", c.values, got, c.want)
		}
		for i := range given {
			if c.values[i] != given[i] {
				t.Errorf("median changed the order of %v to %v", given, c.values)
			}
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v; want NaN", got)
	}
}

func TestPercentileIsAValueThatWasMeasured(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		{hundred, 0.99, 99},
		{hundred, 0.5, 50},
		{hundred, 0, 1},
		{hundred, 1, 100},
		{hundred[:1], 0.99, 1},
		{hundred[:10], 0.99, 10},
		{nil, 0.99, 0},
	} {
		if got := percentile(c.sorted, c.q); got != c.want {
			t.Errorf("percentile(%d values, %v) = %d; want %d", len(c.sorted), c.q, got, c.want)
		}
	}
}

func TestBoundIsTheTightestOfTheThree(t *testing.T) {
	for _, c := range []struct {
		name string
		pullBound
		want float64
	}{
		{"the upstream is slower than the links", pullBound{bytes: 1000, upstream: 10, link: 20, hosts: 8}, 100},
		{"the links are slower", pullBound{bytes: 1000, upstream: 40, link: 20, hosts: 8}, 50},
		{"both as fast", pullBound{bytes: 1000, upstream: 20, link: 20, hosts: 8}, 50},
		{"one host", pullBound{bytes: 1000, upstream: 20, link: 20, hosts: 1}, 50},
	} {
		if got := c.together(); got != c.want {
			t.Errorf("%s: bound of %d hosts = %v s; want %v", c.name, c.hosts, got, c.want)
		}
	}
}

func TestALateHostIsBoundByItsLinkAndByWhatTheUpstreamHasLeft(t *testing.T) {
	p := pullBound{bytes: 1000, upstream: 10, link: 20, hosts: 8}
	for seconds, want := range map[float64]float64{0: 100, 30: 70, 50: 50, 90: 50} {
		if got := p.after(seconds); got != want {
			t.Errorf("bound of a host that starts after %v s = %v s; want %v", seconds, got, want)
		}
	}
	if p.after(0) != p.together() {
		t.Errorf("the first host's bound = %v s; want that of all together, %v", p.after(0), p.together())
	}
}

func TestRatiosOfARunGoByEachHostsOwnStart(t *testing.T) {
	r := shapedRun{
		bound:  pullBound{bytes: 1000, upstream: 20, link: 20, hosts: 2},
		starts: []float64{0, 10}, took: []float64{50, 75},
	}
	if got := r.last(); got != 1.7 {
		t.Errorf("last host ÷ bound = %v; want 1.7", got)
	}
	if got := r.mean(); got != 1.25 {
		t.Errorf("mean ÷ bound = %v; want 1.25", got)
	}
}
