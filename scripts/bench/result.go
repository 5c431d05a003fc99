package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"time"
)

// A goal is what a line should reach.
type goal struct {
	Op    string  `json:"op"` // "<", "<=", ">", ">=" or "="
	Value float64 `json:"value"`
	Aim   float64 `json:"aim,omitempty"` // better than asked for; 0: none
}

func atMost(v float64) *goal           { return &goal{Op: "<=", Value: v} }
func atMostAim(v, aim float64) *goal   { return &goal{Op: "<=", Value: v, Aim: aim} }
func below(v float64) *goal            { return &goal{Op: "<", Value: v} }
func atLeast(v float64) *goal          { return &goal{Op: ">=", Value: v} }
func above(v float64) *goal            { return &goal{Op: ">", Value: v} }
func exactly(v float64) *goal          { return &goal{Op: "=", Value: v} }
func (g *goal) reached(v float64) bool { return compare(v, g.Op, g.Value) }

func compare(v float64, op string, with float64) bool {
	switch op {
	case "<":
		return v < with
	case "<=":
		return v <= with
	case ">":
		return v > with
	case ">=":
		return v >= with
	}
	return v == with
}

func (g *goal) String() string {
	if g == nil {
		return ""
	}
	text := g.Op + " " + number(g.Value)
	if g.Aim != 0 {
		text += ", aim " + number(g.Aim)
	}
	return text
}

// A line is one number of a figure, measured several times.
type line struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit"`
	Goal   *goal     `json:"goal,omitempty"`
	Known  string    `json:"known,omitempty"` // what others were seen to reach
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	// Verdict is "hit" or "miss" by the median, "" without a goal.
	Verdict string `json:"verdict,omitempty"`
}

// finish works out the line's sums.
func (l *line) finish() {
	if len(l.Values) == 0 {
		return
	}
	l.Median, l.Min, l.Max = median(l.Values), slices.Min(l.Values), slices.Max(l.Values)
	if l.Goal == nil {
		return
	}
	l.Verdict = "miss"
	if l.Goal.reached(l.Median) {
		l.Verdict = "hit"
	}
}

// A sheet is what a figure's measurement fills in. It belongs to one goroutine.
type sheet struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Lines   []*line  `json:"lines"`
	Notes   []string `json:"notes,omitempty"`
	Skipped string   `json:"skipped,omitempty"` // why nothing was measured
	Error   string   `json:"error,omitempty"`   // what ended the measurement
	Seconds float64  `json:"seconds"`
}

// line declares a line, in the order of the table, and returns what adds a value to it.
func (s *sheet) line(what, unit string, g *goal, known string) func(float64) {
	l := &line{What: what, Unit: unit, Goal: g, Known: known, Values: []float64{}}
	s.Lines = append(s.Lines, l)
	return func(v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			l.Values = append(l.Values, v)
		}
	}
}

// note adds a remark that belongs to the numbers.
func (s *sheet) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(s.Notes, text) {
		s.Notes = append(s.Notes, text)
	}
}

// results is the file of a run of this program.
type results struct {
	SchemaVersion int       `json:"schema_version"`
	Date          time.Time `json:"date"`
	Version       string    `json:"version"`
	Machine       machine   `json:"machine"`
	Runs          int       `json:"runs"`
	Quick         bool      `json:"quick"` // smaller than it should be: not to be quoted
	Figures       []*sheet  `json:"figures"`
}

func (r *results) write(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(raw, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

func readResults(path string) (*results, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("read results of %s: %w", path, err)
	}
	if r.SchemaVersion != schemaVersion {
		return nil, fmt.Errorf("results of %s have version %d, not %d", path, r.SchemaVersion, schemaVersion)
	}
	return r, nil
}

// schemaVersion is that of the results' JSON.
const schemaVersion = 1

// number writes a value with as many digits as say something.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e9:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case math.Abs(v) >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}
