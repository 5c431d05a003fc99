package main

import (
	"math"
	"slices"
	"time"
)

// median is the middle of the values, or the mean of the two in the middle; NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest value that at least q (0 to 1) of the sorted values do not exceed; 0 of none.
func percentile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// A pullBound is what no way of distribution can beat (Kumar and Ross 2006): the least time in which hosts with
// full-duplex links of one rate can all have the same bytes from an upstream.
type pullBound struct {
	bytes    float64 // of the image
	upstream float64 // bytes a second that the upstream sends
	link     float64 // bytes a second that a host's link carries, each way
	hosts    int
}

// together is the bound in seconds for the last of hosts that start at once.
func (p pullBound) together() float64 {
	n := float64(p.hosts)
	return max(p.bytes/p.upstream, p.bytes/p.link, n*p.bytes/(p.upstream+n*p.link))
}

// after is the bound in seconds for a host of a rolling start, from its own start, that many seconds after the first.
func (p pullBound) after(seconds float64) float64 {
	return max(p.bytes/p.link, p.bytes/p.upstream-seconds)
}
