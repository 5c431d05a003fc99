package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// A report is what the demo has shown. Bytes are bytes, times are seconds.
type report struct {
	SchemaVersion int    `json:"schema_version"`
	Image         string `json:"image"`
	Blobs         int    `json:"blobs"` // configuration and layers
	StandIn       bool   `json:"stand_in"`
	OK            bool   `json:"ok"`
	Problem       string `json:"problem,omitempty"`

	Hosts   []hostReport `json:"hosts"`
	Seconds float64      `json:"seconds"` // until the last host had its image

	UniqueBytes   int64   `json:"unique_bytes"`
	UpstreamBytes int64   `json:"upstream_bytes"`
	UpstreamRatio float64 `json:"upstream_ratio"` // upstream bytes to unique bytes
	PulledBytes   int64   `json:"pulled_bytes"`   // by all hosts
	SavedBytes    int64   `json:"saved_bytes"`    // pulled, but not from the upstream

	// What the fluid bound of peer-to-peer distribution says. No host can have an image of F bytes before F bytes have
	// come over the upstream's link of U bytes a second: T = F/min(U, B), where the hosts' own links, B, are without
	// limit here. The fields are null where U is not known.
	Rate         *float64 `json:"rate_bytes_per_second"`
	BoundSeconds *float64 `json:"bound_seconds"`
	BoundRatio   *float64 `json:"bound_ratio"`

	Again *againReport `json:"again"` // the second pull; null where it did not come to that

	Push *pushReport `json:"push,omitempty"` // what was there before and after the pull of an image that was pushed

	accounted bool // nodes and link were asked for what they have counted
	printed   bool
}

type hostReport struct {
	Host           string  `json:"host"`
	Bytes          int64   `json:"bytes"` // that its engine has read and checked
	Seconds        float64 `json:"seconds"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// From is where the node has had from what it gave to its engine.
	From sources `json:"from"`
	// UpstreamBytes is what this node fetched from the upstream, for all.
	UpstreamBytes int64 `json:"upstream_bytes"`
}

type sources struct {
	Upstream int64 `json:"upstream"`
	Peers    int64 `json:"peers"`
	Disk     int64 `json:"disk"`
}

type againReport struct {
	Seconds       float64 `json:"seconds"`
	PulledBytes   int64   `json:"pulled_bytes"`
	DiskBytes     int64   `json:"disk_bytes"`
	UpstreamBytes int64   `json:"upstream_bytes"`
}

func newReport(o options) *report { return &report{SchemaVersion: 1, Image: o.image.String()} }

// pulled adds what the hosts have seen of the first pull.
func (r *report) pulled(first *pulls) {
	r.Seconds, r.Hosts = first.took.Seconds(), first.report()
	for i, e := range first.engines {
		r.PulledBytes += r.Hosts[i].Bytes
		r.Blobs = max(r.Blobs, len(e.blobs))
		r.UniqueBytes = max(r.UniqueBytes, e.total.Load()) // all pull the same
	}
}

// report is what the hosts have seen.
func (p *pulls) report() []hostReport {
	var out []hostReport
	for i, e := range p.engines {
		got := e.got.Load()
		out = append(out, hostReport{
			Host: p.hosts[i].name, Bytes: got, Seconds: e.took.Seconds(), BytesPerSecond: float64(got) / e.took.Seconds(),
		})
	}
	return out
}

// ofStandIn adds what is known of the stand-in, if there is one.
func (r *report) ofStandIn(o options, s *standIn) {
	if r.StandIn = s != nil; r.StandIn {
		r.UniqueBytes = s.image.UniqueBytes()
	}
	if o.rate > 0 {
		rate := float64(o.rate)
		bound := float64(r.UniqueBytes) / rate
		ratio := r.Seconds / bound
		r.Rate, r.BoundSeconds, r.BoundRatio = &rate, &bound, &ratio
	}
}

// account adds what the nodes and the link have counted of the first pull.
func (r *report) account(ctx context.Context, l *link, first *pulls) error {
	if err := first.account(ctx, r.Hosts); err != nil {
		return err
	}
	r.accounted = true
	r.UpstreamBytes = l.crossed(ctx)
	r.UpstreamRatio = float64(r.UpstreamBytes) / float64(r.UniqueBytes)
	r.SavedBytes = r.PulledBytes - r.UpstreamBytes
	return nil
}

// account adds what the nodes have counted, for hosts that have pulled nothing else.
func (p *pulls) account(ctx context.Context, hosts []hostReport) error {
	counted, err := statuses(ctx, p.hosts, p.engines[0].blobBytes())
	if err != nil {
		return err
	}
	for i, s := range counted {
		hosts[i].From = sources{Upstream: s.Served.Upstream.Bytes, Peers: s.Served.Peer.Bytes, Disk: s.Served.Disk.Bytes}
		hosts[i].UpstreamBytes = s.Upstream.BytesReceived
	}
	return nil
}

// accountAgain adds the second pull.
func (r *report) accountAgain(ctx context.Context, l *link, second *pulls) error {
	a := &againReport{Seconds: second.took.Seconds()}
	for _, e := range second.engines {
		a.PulledBytes += e.got.Load()
	}
	counted, err := statuses(ctx, second.hosts, 2*second.engines[0].blobBytes())
	if err != nil {
		return err
	}
	for i, s := range counted {
		a.DiskBytes += s.Served.Disk.Bytes - r.Hosts[i].From.Disk
	}
	a.UpstreamBytes = l.crossed(ctx) - r.UpstreamBytes
	r.Again = a
	return nil
}

// verdict says what is wrong with what the hosts got, when all had it: the image must have crossed the link once.
func (r *report) verdict() error {
	if err := whole(r.Hosts, r.UniqueBytes); err != nil {
		return err
	}
	if text := ratio(r.UpstreamRatio); text != "1.00" {
		return fmt.Errorf("the image crossed the upstream link %s times; want 1.00", text)
	}
	if r.Again.UpstreamBytes > r.UniqueBytes/100 {
		return fmt.Errorf("the second pull took %s from the upstream; want next to nothing", size(r.Again.UpstreamBytes))
	}
	return nil
}

// whole says which host has not the whole image.
func whole(hosts []hostReport, bytes int64) error {
	for _, h := range hosts {
		if h.Bytes != bytes {
			return fmt.Errorf("host %s has %d bytes; want %d", h.Host, h.Bytes, bytes)
		}
	}
	return nil
}

// fail keeps err in the report.
func (r *report) fail(err error) error {
	r.OK = err == nil
	if err != nil {
		r.Problem = err.Error()
	}
	return err
}

// openReport opens the file for the report before anything else is done; "" is none. What is in it stays until there is
// a report.
func openReport(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
}

// write writes the report as JSON into a file; nil is nowhere.
func (r *report) write(file *os.File) error {
	if file == nil {
		return nil
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_ = file.Truncate(0) // a pipe or a device has nothing to cut off
	_, err = file.Write(append(raw, '\n'))
	return err
}

func ratio(r float64) string { return fmt.Sprintf("%.2f", r) }

// size shows bytes to people, in powers of ten as links are rated.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
