package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print shows the report to people, once.
func (r *report) print(out io.Writer) {
	if r.printed || len(r.Hosts) == 0 {
		return
	}
	r.printed = true
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	printHosts(out, r.Hosts, r.accounted)
	if !r.accounted {
		p("")
		return
	}
	if r.Push != nil {
		p("  (from disk: copies of what was pushed, and what the node had fetched ahead)\n")
		p("Over the link   %s: there is no upstream", size(r.UpstreamBytes))
		p("Time            %s\n", r.time())
		return
	}
	p("  (from disk: what the node had fetched ahead when its engine asked for it)\n")
	counted := "counted by the nodes"
	if r.StandIn {
		counted = "counted on its sockets"
	}
	p("Over the link   %s, %s × the image's %s (%s)", size(r.UpstreamBytes), ratio(r.UpstreamRatio), size(r.UniqueBytes), counted)
	p("Saved           %s", r.saved())
	p("Time            %s", r.time())
	if a := r.Again; a != nil {
		p("Once more       %.2f s, %s of %s from disk, %s over the link", a.Seconds, size(a.DiskBytes),
			size(a.PulledBytes), size(a.UpstreamBytes))
	}
}

// printHosts shows what hosts have pulled, and where their nodes had it from if they were asked.
func printHosts(out io.Writer, hosts []hostReport, accounted bool) {
	header := "host\tbytes\tseconds\tMB/s"
	if accounted {
		header += "\tfrom upstream\tfrom peers\tfrom disk"
	}
	rows := []string{header}
	for _, h := range hosts {
		text := fmt.Sprintf("%s\t%s\t%.2f\t%.1f", h.Host, size(h.Bytes), h.Seconds, h.BytesPerSecond/1e6)
		if accounted {
			text += fmt.Sprintf("\t%s\t%s\t%s", size(h.From.Upstream), size(h.From.Peers), size(h.From.Disk))
		}
		rows = append(rows, text)
	}
	printTable(out, rows)
}

// printTable shows rows, whose cells tabs separate.
func printTable(out io.Writer, rows []string) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		_, _ = fmt.Fprint(t, row, "\t\n")
	}
	_ = t.Flush()
}

// saved compares with hosts that each pull for themselves. A host alone has nobody to share with: that a little more
// than its image crossed the link are the headers.
func (r *report) saved() string {
	if len(r.Hosts) == 1 || r.SavedBytes <= 0 {
		return "nothing: it takes two hosts or more to share"
	}
	return fmt.Sprintf("%s of the %s that the hosts pulled, %.0f%%", size(r.SavedBytes), size(r.PulledBytes),
		100*float64(r.SavedBytes)/float64(r.PulledBytes))
}

// time compares with the bound, where there is one.
func (r *report) time() string {
	text := fmt.Sprintf("%.2f s until the last host had it", r.Seconds)
	if r.BoundRatio == nil {
		return text
	}
	return fmt.Sprintf("%.2f s, %s × the bound (%s at %s/s: %.2f s)", r.Seconds, ratio(*r.BoundRatio),
		size(r.UniqueBytes), size(int64(*r.Rate)), *r.BoundSeconds)
}
