package adminapi_test

import (
	"fmt"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
)

// with is a member of that catalog and that hosts.
func with(id string, up int64, c adminapi.CatalogPart, h adminapi.HostedPart) member {
	return member{id: id, node: adminapi.NodeStatus{UptimeSeconds: up, Catalog: &c, Hosted: &h}}
}

func texts(s adminapi.FarmStatus) string {
	var out []string
	for _, w := range s.Warnings {
		out = append(out, fmt.Sprintf("%s %s: %s", w.Kind, w.Member, w.Text))
	}
	return fmt.Sprintf("%q", out)
}

func TestTheStatusSumsUpWhatTheFarmHosts(t *testing.T) {
	hosts := adminapi.HostedPart{Prefix: "farm.internal", Blobs: 2, Bytes: 10, Uploads: 1, Copies: 3}
	s, _ := collect(t, newFarm(
		with("a", 100, adminapi.CatalogPart{State: adminapi.CatalogVoter, ID: "x", Leader: "a", Commit: 9}, hosts),
		with("b", 100, adminapi.CatalogPart{State: adminapi.CatalogNonVoter, ID: "x", Leader: "c", Commit: 7}, hosts),
		member{id: "c"},
	))
	if s.Degraded || len(s.Warnings) > 0 {
		t.Errorf("Collect() warns of %s; want nothing", texts(s))
	}
	if want := (adminapi.HostedPart{Prefix: "farm.internal", Blobs: 4, Bytes: 20, Uploads: 2, Copies: 3}); s.Hosted == nil || *s.Hosted != want {
		t.Errorf("Hosted is %+v; want %+v", s.Hosted, want)
	}
	if c := s.Catalog; c == nil || c.ID != "x" || c.Leader != "a" || c.Commit != 9 || c.Voters != 1 || c.States[adminapi.CatalogNonVoter] != 1 {
		t.Errorf("Catalog is %+v; want x led by a, who is furthest", s.Catalog)
	}
	if s, _ := collect(t, newFarm(member{id: "c"})); s.Hosted != nil || s.Catalog != nil {
		t.Errorf("a farm that does not say has %+v and %+v; want neither", s.Hosted, s.Catalog)
	}
}

func TestWhatIsWrongWithHostedContentIsWarnedOfOnce(t *testing.T) {
	voter := adminapi.CatalogPart{State: adminapi.CatalogVoter, ID: "x", Leader: "a"}
	lost := adminapi.CatalogPart{State: adminapi.CatalogNoQuorum, ID: "x", Trouble: "leases are skipped"}
	waiting := adminapi.CatalogPart{State: "waiting for seeds (1 of 3)"}
	three := adminapi.HostedPart{Copies: 3}
	for _, row := range []struct {
		what     string
		members  []member
		degraded bool
		want     string
	}{
		{"no quorum", []member{with("a", 100, lost, three), with("b", 100, lost, three)}, true, `["catalog : no quorum, on 2 of 2 members"]`},
		{"one without", []member{with("a", 100, voter, three), with("b", 100, lost, three)}, true, `["catalog b: no quorum"]`},
		{"just started", []member{with("a", 10, waiting, three)}, false, `[]`},
		{"still waiting", []member{with("a", 100, waiting, three)}, true, `["catalog : waiting for seeds (1 of 3), on 1 of 1 members"]`},
		{
			"two catalogs",
			[]member{with("a", 1, voter, three), with("b", 1, adminapi.CatalogPart{State: adminapi.CatalogVoter, ID: "y"}, three)},
			true, `["catalog : members know 2 catalogs, where there should be one: x, y"]`,
		},
		{
			"trouble",
			[]member{with("a", 1, adminapi.CatalogPart{State: adminapi.CatalogVoter, ID: "x", Trouble: "disk full"}, three), with("b", 1, voter, three)},
			true, `["catalog a: disk full"]`,
		},
		{
			"below copies",
			[]member{with("a", 1, voter, adminapi.HostedPart{Copies: 3, BelowCopies: 2, Repairing: 1}), with("b", 1, voter, adminapi.HostedPart{Copies: 3, BelowCopies: 1})},
			true, `["copies : hosted blobs with fewer than 3 copies: 3; being copied again: 1"]`,
		},
		{
			"at odds",
			[]member{with("a", 1, voter, adminapi.HostedPart{Copies: 2, Prefix: "p.q"}), with("b", 1, voter, three)},
			true, `["copies : hosted.copies is not the same on all members: [2 3]" "copies : hosted.prefix is not the same on all members: [\"\" \"p.q\"]"]`,
		},
	} {
		if s, _ := collect(t, newFarm(row.members...)); texts(s) != row.want || s.Degraded != row.degraded {
			t.Errorf("%s: warnings %s, degraded %v; want %s, %v", row.what, texts(s), s.Degraded, row.want, row.degraded)
		}
	}
}
