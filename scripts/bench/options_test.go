package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
)

func TestFiguresAreChosenByNameOrByKind(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-only", "ttfb, once"}, "once ttfb"},
		{[]string{"-only", "peer-lie,ttfb"}, "ttfb peer-lie"},
		{[]string{"-shaped"}, "shaped-together shaped-rolling shaped-trust join owner-kill owner-cut peer-kill peer-cut peer-lie"},
	} {
		o, err := parseOptions(c.args, io.Discard)
		if err != nil {
			t.Fatalf("%v: %v", c.args, err)
		}
		var names []string
		for _, f := range o.chosen() {
			names = append(names, f.name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%v measures %q; want %q", c.args, got, c.want)
		}
	}
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range o.chosen() {
		if f.shaped {
			t.Errorf("%s is measured without -shaped", f.name)
		}
	}
}

func TestWrongUsageIsSaid(t *testing.T) {
	for _, args := range [][]string{{"-only", "nosuch"}, {"-runs", "0"}, {"-report"}, {"stray"}, {"-nosuch"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != exitUsage || stderr.Len() == 0 {
			t.Errorf("bench %v: exit code %d, stderr %q; want %d and a reason", args, code, stderr.String(), exitUsage)
		}
	}
}

func TestAllFiguresAreListedOnce(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-list"}, &out, io.Discard); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	for _, f := range figures() {
		if n := strings.Count("\n"+out.String(), "\n"+f.name+" "); n != 1 {
			t.Errorf("%s is listed %d times", f.name, n)
		}
		if f.seconds(3, 5) <= 0 || f.about == "" || f.measure == nil {
			t.Errorf("%s is not whole", f.name)
		}
	}
}

func TestPairsAreTakenFiveTimesUnlessItIsATry(t *testing.T) {
	for runs, want := range map[int]int{1: 1, 2: 5, 3: 5, 7: 7} {
		if got := (options{runs: runs}).pairs(); got != want {
			t.Errorf("pairs at %d runs = %d; want %d", runs, got, want)
		}
	}
}

func TestTheVictimIsHalfWay(t *testing.T) {
	node := func(upstream, received, sent int64) *adminapi.NodeStatus {
		return &adminapi.NodeStatus{Upstream: adminapi.Upstream{BytesReceived: upstream}, Peers: adminapi.Peers{BytesReceived: received, BytesSent: sent}}
	}
	nodes := []*adminapi.NodeStatus{nil, node(60, 0, 300), node(0, 55, 20), node(0, 70, 40), node(0, 40, 90)}
	if got := pickVictim(nodes, true, 100); got != 1 {
		t.Errorf("owner to harm = %d; want 1", got)
	}
	if got := pickVictim(nodes, false, 100); got != 3 {
		t.Errorf("peer to harm = %d; want 3, which serves the most of those that have half", got)
	}
	if got := pickVictim(nodes, true, 1000); got != -1 {
		t.Errorf("owner to harm before half-way = %d; want none", got)
	}
}
