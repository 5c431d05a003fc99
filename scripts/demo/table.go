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
		counted = "counted on the upstream's sockets, headers included"
	}
	p("Crossed the upstream link   %s, %s × the image's %s   (%s)", size(r.UpstreamBytes), ratio(r.UpstreamRatio), size(r.UniqueBytes), counted)
	p("Saved                       %s of %s, %.0f%%", size(r.SavedBytes), size(r.PulledBytes), 100*float64(r.SavedBytes)/float64(r.PulledBytes))
	if r.BoundRatio != nil {
		p("Time                        %.2f s for all %d hosts, %s × the bound of %.2f s   (%s ÷ %s/s: no host can be done before)",
			r.Seconds, len(r.Hosts), ratio(*r.BoundRatio), *r.BoundSeconds, size(r.UniqueBytes), size(int64(*r.Rate)))
	} else {
		p("Time                        %.2f s for all %d hosts", r.Seconds, len(r.Hosts))
	}
	if a := r.Again; a != nil {
		p("The same pull again         %.2f s, %s of %s from disk, %s over the link", a.Seconds, size(a.DiskBytes), size(a.PulledBytes), size(a.UpstreamBytes))
	}
}
