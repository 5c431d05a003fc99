package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is all that is wrong with a configuration. Programs that get it end with
// exit code 2.
type Error struct {
	Problems []Problem
}

// Problem is one thing that is wrong.
type Problem struct {
	// Source is where it was said: "p2pd.yaml:7", "environment P2PD_ZONE", "flag
	// --zone" or "default".
	Source string
	// Key is the path of the key, "" when the whole source is wrong.
	Key  string
	Text string

	order int // of the sources, and the line in the file
	line  int
}

// String puts a problem into one line.
func (p Problem) String() string {
	if p.Key == "" {
		return fmt.Sprintf("%s: %s", p.Source, p.Text)
	}
	return fmt.Sprintf("%s: %s: %s", p.Source, p.Key, p.Text)
}

// Error gives each problem a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problems collects them.
type problems struct{ all []Problem }

func (p *problems) add(at origin, key, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		p.all = append(p.all, Problem{Source: at.String(), Key: key, Text: line, order: int(at.kind), line: at.line})
	}
}

// err returns the problems in the order in which a person goes through them.
func (p *problems) err() error {
	if len(p.all) == 0 {
		return nil
	}
	slices.SortStableFunc(p.all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.line, b.line))
	})
	return &Error{Problems: p.all}
}

type originKind int

const (
	fromFile originKind = iota
	fromEnvironment
	fromFlag
	fromDefault
)

// origin is where a value was said.
type origin struct {
	kind originKind
	name string // of the file, the variable or the flag
	line int    // in the file, 0 for all of it
}

func (o origin) String() string {
	switch {
	case o.kind == fromFile && o.line > 0:
		return fmt.Sprintf("%s:%d", o.name, o.line)
	case o.kind == fromFile:
		return o.name
	case o.kind == fromEnvironment:
		return "environment " + o.name
	case o.kind == fromFlag:
		return "flag --" + o.name
	default:
		return "default"
	}
}
