package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print shows the report to people.
func (r *report) print(out io.Writer) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	t := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\t\n", args...) }
	row("host\tbytes\tseconds\tMB/s\tfrom upstream\tfrom peers\tfrom disk")
	for _, h := range r.Hosts {
		row("%s\t%s\t%.2f\t%.1f\t%s\t%s\t%s", h.Host, size(h.Bytes), h.Seconds, h.BytesPerSecond/1e6,
			size(h.From.Upstream), size(h.From.Peers), size(h.From.Disk))
	}
	_ = t.Flush()
	p("")
	if r.UpstreamRatio == 0 {
		return // it did not come to that
	}
	counted := "counted by the nodes"
	if r.StandIn {
		counted = "counted on its sockets"
	}
	p("Crossed the upstream link   %s, %s × the image's %s (%s)", size(r.UpstreamBytes), ratio(r.UpstreamRatio), size(r.UniqueBytes), counted)
	p("Saved                       %s of the %s that the hosts pulled, %.0f%%", size(r.SavedBytes), size(r.PulledBytes),
		100*float64(r.SavedBytes)/float64(r.PulledBytes))
	p("Time                        %s", r.time())
	if a := r.Again; a != nil {
		p("The same pull again         %.2f s, %s of %s from disk, %s over the link", a.Seconds, size(a.DiskBytes),
			size(a.PulledBytes), size(a.UpstreamBytes))
	}
}

// time compares with the bound, where there is one.
func (r *report) time() string {
	text := fmt.Sprintf("%.2f s until the last host had it", r.Seconds)
	if r.BoundRatio == nil {
		return text
	}
	return text + fmt.Sprintf(", %s × the bound of %.2f s (%s at %s/s)", ratio(*r.BoundRatio), *r.BoundSeconds,
		size(r.UniqueBytes), size(int64(*r.Rate)))
}
