package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// program builds p2pd, once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "p2p-demo-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "p2pd")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/p2pd").CombinedOutput()
	if err != nil {
		return "", &buildError{out, err}
	}
	return path, nil
})

type buildError struct {
	out []byte
	err error
}

func (e *buildError) Error() string { return "build p2pd: " + e.err.Error() + "\n" + string(e.out) }

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// small are the flags for a farm of three that pulls an image of 12 MiB.
func small(t *testing.T, more ...string) []string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	return append([]string{"-p2pd", path, "-any-ports", "-nodes", "3", "-layers", "9MiB,2MiB,1MiB", "-rate", "12MB"}, more...)
}

func TestAnImageCrossesTheLinkOnceForThreeHosts(t *testing.T) {
	r, stdout := reported(t, small(t))
	checkReport(t, r)
	checkShown(t, stdout, `127\.0\.0\.3 +1\d\.\d MB +\d+\.\d\d +\d+\.\d `,
		`Over the link +1\d\.\d MB, 1\.00 × the image's 1\d\.\d MB`, `Saved .*, 6[67]%`, `Once more .* 0 B over the link`)
	nothingLeft(t)
}

// reported runs the demo, which must end well, and returns its report and what it showed.
func reported(t *testing.T, args []string) (report, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	args = append(args, "-json", file)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != exitDone {
		t.Fatalf("run(%q) = %d; want %d; stdout:\n%s\nstderr:\n%s", args, code, exitDone, &stdout, &stderr)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r, stdout.String()
}

// checkShown looks for expressions in what was shown, each behind the one before it.
func checkShown(t *testing.T, stdout string, wants ...string) {
	t.Helper()
	rest := stdout
	for _, want := range wants {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("stdout has no match of %q in its place:\n%s", want, stdout)
		}
		rest = rest[at[1]:]
	}
}

func checkReport(t *testing.T, r report) {
	t.Helper()
	const image = 12 << 20
	if !r.OK || !r.StandIn || len(r.Hosts) != 3 || r.Blobs != 4 {
		t.Errorf("report = %+v; want it to be ok, of the stand-in, with 3 hosts and 4 blobs", r)
	}
	if r.UniqueBytes < image-1<<20 || r.UniqueBytes > image+1<<20 {
		t.Errorf("unique_bytes = %d; want about %d", r.UniqueBytes, image)
	}
	if r.UpstreamBytes < r.UniqueBytes || r.UpstreamRatio >= 1.005 {
		t.Errorf("upstream_bytes = %d of %d unique, ratio %v; want all, once", r.UpstreamBytes, r.UniqueBytes, r.UpstreamRatio)
	}
	if r.BoundRatio == nil || *r.BoundRatio < 0.9 {
		t.Errorf("bound_ratio = %v; want one, and no pull can be faster than the link", r.BoundRatio)
	}
	var fromUpstream int64
	for _, h := range r.Hosts {
		if h.Bytes != r.UniqueBytes || h.Seconds <= 0 || h.Seconds > r.Seconds {
			t.Errorf("host = %+v; want %d bytes in at most %v s", h, r.UniqueBytes, r.Seconds)
		}
		if given := h.From.Upstream + h.From.Peers + h.From.Disk; given < r.UniqueBytes-1<<20 {
			t.Errorf("host = %+v; want its sources to come to about %d", h, r.UniqueBytes)
		}
		fromUpstream += h.UpstreamBytes
	}
	if fromUpstream < r.UniqueBytes || fromUpstream > r.UniqueBytes+r.UniqueBytes/100 {
		t.Errorf("nodes have counted %d bytes from the upstream; want about %d", fromUpstream, r.UniqueBytes)
	}
	if r.Again == nil || r.Again.UpstreamBytes > r.UniqueBytes/100 || r.Again.DiskBytes < 3*(r.UniqueBytes-1<<20) {
		t.Errorf("again = %+v; want all from disk", r.Again)
	}
}

// nothingLeft makes sure that the temporary directory is gone.
func nothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s is left behind", entry.Name())
	}
}

func TestWhoeverStopsItLeavesNothingBehind(t *testing.T) {
	// Ten seconds and more at that rate; it is stopped once the pull is on.
	stoppedAt(t, "over the link", small(t, "-rate", "1MB"))
}

func TestWhoeverStopsItAfterAHostWasLostLeavesNothingBehind(t *testing.T) {
	stoppedAt(t, "Killed the node of 127.0.0.1", small(t, "-push"))
}

// stoppedAt stops the demo once it has shown some words.
func stoppedAt(t *testing.T, words string, args []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	var shown bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		text := make([]byte, 4096)
		for {
			n, err := read.Read(text)
			shown.Write(text[:n])
			if strings.Contains(string(text[:n]), words) {
				stop()
			}
			if err != nil {
				return
			}
		}
	}()
	var stderr bytes.Buffer
	start := time.Now()
	code := run(ctx, args, write, &stderr)
	_ = write.Close()
	<-done
	if !regexp.MustCompile("Stopping [23] nodes …").MatchString(shown.String()) {
		t.Errorf("stdout does not say that the nodes are being stopped:\n%s", &shown)
	}
	if code != exitFailed || !strings.Contains(stderr.String(), "stopped before the end") {
		t.Errorf("run when stopped = %d, %q; want %d and that it was stopped", code, &stderr, exitFailed)
	}
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("it took %v to stop; want that to be soon", took)
	}
	nothingLeft(t)
}

func TestANodeThatDoesNotStartIsToldWithItsLastWords(t *testing.T) {
	script := filepath.Join(t.TempDir(), "p2pd")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho out of luck >&2\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := append(small(t), "-p2pd", script)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	if text := stderr.String(); code != exitFailed || !strings.Contains(text, "exit status 7") || !strings.Contains(text, "out of luck") {
		t.Errorf("run = %d, %q; want %d, the exit status and the last words", code, text, exitFailed)
	}
	nothingLeft(t)
}

func TestWrongUsageIsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-nodes", "0"},
		{"-nodes", "65"},
		{"-rate", "fast"},
		{"-layers", "12MiB,"},
		{"-image", "library/python:3"},
		{"-hub", "-image", "ghcr.io/a/b"},
		{"-hub", "-image", "UPPER"},
		{"more"},
		{"-no-such-flag"},
		{"-nodes", "abc"},
		{"-push", "-nodes", "2"},
		{"-push", "-hub"},
		{"-push", "-image", "farm.internal/team/app:1"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != exitUsage || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("run(%q) = %d, %q; want %d and a line that says why", args, code, &stderr, exitUsage)
		}
	}
}

func TestHelpNamesTheFlags(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, io.Discard, &stderr); code != exitDone || !strings.Contains(stderr.String(), "-rate") {
		t.Errorf("run(-h) = %d, %q; want %d and the flags", code, &stderr, exitDone)
	}
}

func TestARateWithoutItsUnitIsAskedBack(t *testing.T) {
	for text, want := range map[string]string{
		"100": "rate 100 is 100 B/s; did you mean 100MB?", "50B": "did you mean 50MB?", "900kB": "rate 900kB is 900.0 kB/s; want 1MB or more",
		"0": "", "1MB": "", "100MB/s": "", "6MiB": "",
	} {
		_, err := parseOptions([]string{"-rate", text}, io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("parseOptions(-rate %s) = %v; want %q", text, err, want)
		}
	}
}

func TestAFileForTheReportThatCannotBeWrittenIsToldFirst(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"-json", filepath.Join(t.TempDir(), "absent", "report.json")}
	if code := run(t.Context(), args, &stdout, &stderr); code != exitFailed || stdout.Len() > 0 || !strings.Contains(stderr.String(), "report.json") {
		t.Errorf("run(%q) = %d, stdout %q, stderr %q; want %d before anything else", args, code, &stdout, &stderr, exitFailed)
	}
}

func TestWhatAKilledDemoLeftBehindIsRemovedAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	abandoned := filepath.Join(dir, fmt.Sprintf("p2p-demo-%d-1234", ended.Process.Pid))
	if err := os.MkdirAll(filepath.Join(abandoned, "host-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	running, err := makeDir(false)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := makeDir(true)
	if err != nil {
		t.Fatal(err)
	}
	removeAbandoned(dir)
	if _, err := os.Stat(abandoned); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there", abandoned)
	}
	for _, path := range []string{running, kept} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("what is in use, or was to be kept, is gone: %v", err)
		}
	}
}

func TestAHostAloneSavesNothing(t *testing.T) {
	r := &report{Hosts: make([]hostReport, 1), UniqueBytes: 1000, UpstreamBytes: 1100, UpstreamRatio: 1.1, PulledBytes: 1000, SavedBytes: -100, accounted: true}
	var out bytes.Buffer
	r.print(&out)
	if text := out.String(); !strings.Contains(text, "Saved           nothing") || strings.Contains(text, "-1") {
		t.Errorf("report of a host alone:\n%s", text)
	}
}

func TestImagesAreNamedAsForDocker(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, want := range map[string]string{
		"": "library/python:3", "alpine": "library/alpine:latest", "grafana/grafana:12": "grafana/grafana:12",
		"docker.io/library/debian": "library/debian:latest", "alpine@" + digest: "library/alpine@" + digest,
	} {
		o, err := parseOptions([]string{"-hub", "-image", name}, io.Discard)
		if err != nil || o.image.String() != want {
			t.Errorf("parseOptions(-image %q) = %v, %v; want %s", name, o.image, err, want)
		}
	}
}
