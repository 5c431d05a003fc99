package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPushedImageIsThereForAllWhenItsHostIsLost(t *testing.T) {
	r, stdout := reported(t, small(t, "-push", "-nodes", "4"))
	checkPush(t, r)
	checkShown(t, stdout, `Upstream: none\.`, `catalog has a leader, 127\.0\.0\.\d, one of \d voters`,
		`Pushing farm\.internal/team/app:1 to 127\.0\.0\.1`, `host  hosted blobs  hosted bytes  below copies`,
		`answered when 3 hosts had each blob on disk`, `Copies +\d+ of 5 blobs, .* 0 blobs have fewer than 3`,
		`All of them pull`, `127\.0\.0\.4 +1\d\.\d MB .* 0 B `, `Over the link +0 B`,
		`Killed the node of 127\.0\.0\.1, .* The catalog has a leader, 127\.0\.0\.[234] `,
		`127\.0\.0\.5 has joined, with nothing on its disk`, `127\.0\.0\.5 +1\d\.\d MB .* 0 B `,
		`Moved +farm\.internal/team/app:1 .* at 127\.0\.0\.2`, `4 of 4 hosts, asked at once, named the new one`, `Upstream +0 B`)
	nothingLeft(t)
}

func checkPush(t *testing.T, r report) {
	t.Helper()
	if !r.OK || r.StandIn || r.UpstreamBytes != 0 || len(r.Hosts) != 4 || r.Again != nil || r.BoundRatio != nil {
		t.Errorf("report = %+v; want it to be ok, of 4 hosts, and nothing of an upstream", r)
	}
	for _, h := range r.Hosts {
		if h.Bytes != r.UniqueBytes || h.From.Upstream != 0 || h.UpstreamBytes != 0 {
			t.Errorf("host = %+v; want %d bytes and none from an upstream", h, r.UniqueBytes)
		}
	}
	p := r.Push
	if p == nil || p.Lost == nil || p.Lost.By == nil || p.Moved == nil {
		t.Fatalf("push = %+v; want all of it", p)
	}
	have, _ := p.sum()
	if p.Host != r.Hosts[0].Host || p.Bytes != r.UniqueBytes || p.Copies != 3 || p.BelowCopies != 0 || p.Blobs != 5 || have < 3*5 {
		t.Errorf("push = %+v; want 5 blobs of %d bytes, 3 copies of each", p, r.UniqueBytes)
	}
	if p.Catalog.Voters < 3 || p.Lost.Host != p.Host || p.Lost.Catalog.Leader == p.Host {
		t.Errorf("lost = %+v, catalog %+v; want %s, and another leader than it", p.Lost, p.Catalog, p.Host)
	}
	if by := p.Lost.By; by.Bytes != r.UniqueBytes || by.From.Upstream != 0 || by.From.Peers == 0 {
		t.Errorf("new host = %+v; want %d bytes, from peers", by, r.UniqueBytes)
	}
	if p.Moved.Hosts != 4 || p.Moved.Digest == "" {
		t.Errorf("moved = %+v; want 4 hosts that say so", p.Moved)
	}
}

func TestAPushThatIsRefusedEndsTheDemoInFailure(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args := small(t, "-push")
	script := filepath.Join(t.TempDir(), "p2pd")
	text := fmt.Sprintf("#!/bin/sh\nP2PD_HOSTED_PREFIX=other.internal exec %q \"$@\"\n", path)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), append(args, "-p2pd", script), &stdout, &stderr)
	if text := stderr.String(); code != exitFailed || !strings.Contains(text, "push to host 127.0.0.1") {
		t.Errorf("run = %d, %q; want %d and what was refused", code, text, exitFailed)
	}
	nothingLeft(t)
}

func TestCopiesThatAreMissingAreTold(t *testing.T) {
	p := &pushReport{Host: "a", Blobs: 2, Copies: 3, Kept: []keptReport{{"a", 2, 20, 0}, {"b", 2, 20, 0}, {"c", 1, 10, 0}}}
	if err := p.enough(); err == nil || !strings.Contains(err.Error(), "5 copies of 2 blobs") {
		t.Errorf("enough() with 5 of 6 copies = %v; want that told", err)
	}
	p.Kept[2] = keptReport{"c", 2, 20, 1}
	p.BelowCopies = 1
	if err := p.enough(); err != nil {
		t.Errorf("enough() with 6 of 6 copies = %v; want nil", err)
	}
	if err := p.below(); err == nil {
		t.Error("below() with a blob that a node misses copies of = nil; want it told")
	}
	var out bytes.Buffer
	p.print(&out)
	const want = `  host  hosted blobs  hosted bytes  below copies
     a             2          20 B             0
     b             2          20 B             0
     c             2          20 B             1

Pushed          0 B in 0.00 s, 0 B/s, answered when 3 hosts had each blob on disk
Copies          6 of 2 blobs, 60 B; 1 blobs have fewer than 3

`
	if out.String() != want {
		t.Errorf("print() shows\n%s\nwant\n%s", &out, want)
	}
}
