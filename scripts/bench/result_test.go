package main

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestALineIsAHitByItsMedian(t *testing.T) {
	for _, c := range []struct {
		goal   *goal
		values []float64
		want   string
	}{
		{atMost(1.1), []float64{1.0, 1.1, 9}, "hit"},
		{atMost(1.1), []float64{1.0, 1.2, 1.3}, "miss"},
		{below(50), []float64{50}, "miss"},
		{atLeast(0.95), []float64{0.95}, "hit"},
		{above(1), []float64{1}, "miss"},
		{exactly(2), []float64{2, 2, 3}, "hit"},
		{nil, []float64{2}, ""},
		{atMost(1.1), nil, ""},
	} {
		l := line{Goal: c.goal, Values: c.values}
		l.finish()
		if l.Verdict != c.want {
			t.Errorf("%v against %q: %q; want %q", c.values, c.goal, l.Verdict, c.want)
		}
	}
}

func TestValuesThatAreNoNumbersAreLeftOut(t *testing.T) {
	s := &sheet{}
	add := s.line("what", "", nil, "")
	for _, v := range []float64{1, math.NaN(), math.Inf(1), 3} {
		add(v)
	}
	if l := s.Lines[0]; len(l.Values) != 2 {
		t.Errorf("values = %v; want 1 and 3", l.Values)
	}
}

func TestTheReportHasWhatWasWritten(t *testing.T) {
	s := &sheet{Name: "serve-disk", About: "a blob"}
	add := s.line("speed ÷ plain server's", "", atLeast(0.95), "others 0.5")
	add(1.25)
	add(0.75)
	add(1)
	s.line("not measured", "MiB", atMost(128), "")
	s.note("%d clients", 16)
	for _, l := range s.Lines {
		l.finish()
	}
	r := &results{
		SchemaVersion: schemaVersion, Date: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Version: "v1.2.3", Runs: 3, Figures: []*sheet{s},
		Machine: machine{Processor: "Example CPU", Cores: 2, Memory: 8 << 30, Kernel: "6.1", Go: "go1.26"},
	}
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := reportFiles(&out, []string{path}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 May 2026", "v1.2.3", "2 cores of Example CPU", "8 GiB",
		"| `serve-disk` | speed ÷ plain server's | 1 | 0.7500 to 1.2500 | >= 0.9500 | hit | others 0.5 |\n",
		"| `serve-disk` | not measured | - |  | <= 128 |  |  |\n", "- `serve-disk`: 16 clients\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, out.String())
		}
	}
}

func TestResultsOfAnotherVersionAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := (&results{SchemaVersion: schemaVersion + 1}).write(path); err != nil {
		t.Fatal(err)
	}
	if err := reportFiles(&bytes.Buffer{}, []string{path}); err == nil {
		t.Error("results of another version were taken")
	}
}
