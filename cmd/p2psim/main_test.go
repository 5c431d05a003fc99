package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

func TestTheCommandPrintsATableOrJSON(t *testing.T) {
	var out, errs bytes.Buffer
	args := []string{"--hosts", "4", "--size", "64MiB", "--host-rate", "1gbit", "--upstream-rate", "500mbit", "--runs", "2"}
	if code := run(args, &out, &errs); code != 0 {
		t.Fatalf("run = %d; want 0: %s", code, &errs)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "HOSTS") || !strings.HasPrefix(lines[1], "4 ") {
		t.Errorf("output is\n%s\nwant a heading and two rows", &out)
	}
	out.Reset()
	if code := run(append(args, "-o", "json", "--kill", "peer@50%"), &out, &errs); code != 0 {
		t.Fatalf("run = %d; want 0: %s", code, &errs)
	}
	var r sim.Result
	if err := json.NewDecoder(&out).Decode(&r); err != nil || r.Hosts != 4 || r.Mean < 1 {
		t.Errorf("JSON gave %+v, %v; want 4 hosts and a ratio of at least 1", r, err)
	}
}

func TestWrongUsageIsSaidWithCodeTwo(t *testing.T) {
	for _, args := range [][]string{
		{"--hosts", "0"},
		{"--host-rate", "fast"},
		{"--kill", "everyone@50%"},
		{"--size", "many"},
		{"-o", "xml"},
		{"--runs", "0"},
		{"more"},
	} {
		var out, errs bytes.Buffer
		if code := run(args, &out, &errs); code != 2 || errs.Len() == 0 || out.Len() != 0 {
			t.Errorf("run(%q) = %d, out %q, err %q; want 2 and a word about it", args, code, &out, &errs)
		}
	}
}
