package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what all members hold, serve and fetch, and what is wrong",
		Args:  cobra.NoArgs,
		RunE:  work(o.status),
	}
}

func (o *options) status(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	s, err := client.Status(ctx, o.timeout)
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = writeJSON(o.stdout, s)
	} else {
		_, err = io.WriteString(o.stdout, statusText(s, colours(o.stdout)))
	}
	if err == nil && s.Degraded {
		err = errDegraded
	}
	return err
}

// statusText is a farm's status for people: a line that sums it up, a row for each member, and what is wrong.
func statusText(s adminapi.FarmStatus, colour bool) string {
	var out strings.Builder
	out.WriteString(summary(s) + "\n")
	if s.Trust != nil {
		out.WriteString(red(printable(trustLine(*s.Trust)), colour && s.Trust.Modes[adminapi.TrustNone] > 0) + "\n")
	}
	out.WriteString("\n" + memberTable(s).String())
	if s.Catalog != nil || s.Hosted != nil {
		out.WriteString("\n" + hostedLines(s))
	}
	if len(s.Warnings) > 0 {
		out.WriteByte('\n')
	}
	for _, w := range s.Warnings {
		out.WriteString(red(printable(warningLine(w)), colour) + "\n")
	}
	return out.String()
}

func summary(s adminapi.FarmStatus) string {
	t := s.Totals
	members := plural(t.Members, "member")
	if t.Answered < t.Members {
		members += fmt.Sprintf(" (%d answered)", t.Answered)
	}
	return fmt.Sprintf("farm %s: %s, %s cached in %s, %s saved, hit ratio %s", printable(s.Farm), members, size(t.Bytes),
		plural(t.Blobs, "blob"), size(max(t.SavedBytes, 0)), ratio(t.Served))
}

// trustLine says how the members know each other.
func trustLine(t adminapi.FarmTrust) string {
	var modes []string
	for _, mode := range slices.Sorted(maps.Keys(t.Modes)) {
		if len(t.Modes) > 1 {
			modes = append(modes, fmt.Sprintf("%s on %d", mode, t.Modes[mode]))
		} else {
			modes = append(modes, mode)
		}
	}
	line := "trust " + strings.Join(modes, ", ")
	if t.CA == "" {
		return line
	}
	line += fmt.Sprintf(": CA %s, epoch %d", short(t.CA), t.Epoch)
	if !t.CertificateEnd.IsZero() {
		line += ", first certificate ends " + moment(t.CertificateEnd)
	}
	if len(t.Revoked) > 0 {
		line += ", " + plural(len(t.Revoked), "node") + " shut out"
	}
	return line
}

// hostedLines say what the farm keeps of its own, and how its catalog stands.
func hostedLines(s adminapi.FarmStatus) string {
	var out strings.Builder
	if h := s.Hosted; h != nil {
		line := fmt.Sprintf("hosted under %s: %s in %s of blobs, %d of each wanted", h.Prefix, size(h.Bytes),
			count(h.Blobs, "copy", "copies"), h.Copies)
		if h.BelowCopies > 0 {
			line += fmt.Sprintf(", %d below that, %d being copied again", h.BelowCopies, h.Repairing)
		}
		if h.Uploads > 0 {
			line += ", " + plural(h.Uploads, "upload") + " open"
		}
		out.WriteString(printable(line) + "\n")
	}
	if c := s.Catalog; c != nil {
		out.WriteString(printable(farmCatalogLine(*c)) + "\n")
	}
	return out.String()
}

// farmCatalogLine names the states of members that are no voters.
func farmCatalogLine(c adminapi.FarmCatalog) string {
	line := "catalog: none yet"
	if c.ID != "" {
		leader := "no leader"
		if c.Leader != "" {
			leader = "leader " + c.Leader
		}
		line = fmt.Sprintf("catalog %s: %s, %s, commit %d", short(c.ID), plural(c.Voters, "voter"), leader, c.Commit)
	}
	for _, state := range slices.Sorted(maps.Keys(c.States)) {
		if state != adminapi.CatalogVoter {
			line += fmt.Sprintf(", %d %s", c.States[state], state)
		}
	}
	return line
}

func ratio(s adminapi.Served) string {
	if s.Bytes() == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*s.HitRatio, 'f', 1, 64) + "%"
}

func plural(n int, word string) string { return count(n, word, word+"s") }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func memberTable(s adminapi.FarmStatus) *table {
	t := newTable("HOST", "ZONE", "STATE", "VERSION", ">BLOBS", ">CACHED", ">FROM DISK", ">FROM PEERS", ">FROM UPSTREAM",
		">SENT", ">RECEIVED", ">SWARMS", "RING")
	for _, m := range s.Members {
		if m.Node == nil {
			t.add(m.ID, m.Zone, m.State+silent(m), m.Version, "", "", "", "", "", "", "", "", "")
			continue
		}
		n := m.Node
		t.add(m.ID, n.Zone, n.State, n.Version, strconv.Itoa(n.Store.Blobs), size(n.Store.Bytes),
			size(n.Served.Disk.Bytes), size(n.Served.Peer.Bytes), size(n.Served.Upstream.Bytes),
			size(n.Peers.BytesSent), size(n.Peers.BytesReceived), strconv.Itoa(n.Swarms.Now), ringMark(s.Ring, n.Ring.Hash))
	}
	if len(s.Members) > 1 {
		sum := s.Totals
		t.add("total", " ", " ", " ", strconv.Itoa(sum.Blobs), size(sum.Bytes),
			size(sum.Served.Disk.Bytes), size(sum.Served.Peer.Bytes), size(sum.Served.Upstream.Bytes),
			size(sum.Peers.BytesSent), size(sum.Peers.BytesReceived), strconv.Itoa(sum.Swarms.Now), " ")
	}
	return t
}

// silent marks a member that is there, and of whom an answer was expected.
func silent(m adminapi.MemberStatus) string {
	if m.State == adminapi.StateLeft || m.State == adminapi.StateGone {
		return ""
	}
	return ", silent"
}

// ringMark is the first digits of a ring's hash, marked when most members have another.
func ringMark(most adminapi.FarmRing, hash string) string {
	short := hash[:min(len(hash), 8)]
	if most.Differs(hash) {
		return short + " differs"
	}
	return short
}

// warningLine is about a member, or about the farm.
func warningLine(w adminapi.Warning) string {
	if w.Member == "" {
		return "warning: " + w.Text
	}
	if w.Kind == adminapi.WarnUnreachable {
		return fmt.Sprintf("warning: %s %s", w.Member, w.Text)
	}
	return fmt.Sprintf("warning: %s: %s: %s", w.Member, w.Kind, w.Text)
}
