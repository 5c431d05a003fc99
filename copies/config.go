package copies

import (
	"errors"
	"fmt"
	"time"
)

// A Config says how many copies are kept and what that may cost. Zeros stand for the defaults unless it says otherwise.
type Config struct {
	Node      string // this node's id
	Copies    int    // nodes that keep each hosted blob; default 3
	MinCopies int    // nodes that must have taken a push when fewer than Copies are up; default 2

	Incoming int           // blobs that peers may send here at once, and four times as many small ones; default 16
	Message  int           // bytes of a blob in one message; default 1 MiB
	Stall    time.Duration // a peer that takes or sends no byte for so long is given up; default 10 s
	Commit   time.Duration // a peer may take so long to put a whole blob down; default 1 min

	RepairRate   int64         // bytes a second that are sent in the background; 0: no limit; default 64 MiB
	CompareEvery time.Duration // how often nodes compare what they have; default 1 min
	NotesEvery   time.Duration // how often notes are compared with the catalog; default 10 min
	// Grace is how long ago a blob must have been used to be collected; default 1 h. It must be longer than what is between
	// a push's question to a node and the name in the catalog.
	Grace time.Duration

	idle bool // nothing is mended: a test's
}

// Default is a config for a node with every default filled in.
func Default(node string) Config {
	return Config{
		Node: node, Copies: 3, MinCopies: 2,
		Incoming: 16, Message: 1 << 20, Stall: 10 * time.Second, Commit: time.Minute,
		RepairRate: 64 << 20, CompareEvery: time.Minute, NotesEvery: 10 * time.Minute, Grace: time.Hour,
	}
}

// filled is c with defaults in the place of zeros that mean nothing.
func (c Config) filled() Config {
	d := Default(c.Node)
	fill(&c.Copies, d.Copies)
	fill(&c.MinCopies, min(d.MinCopies, c.Copies))
	fill(&c.Incoming, d.Incoming)
	fill(&c.Message, d.Message)
	fill(&c.Stall, d.Stall)
	fill(&c.Commit, d.Commit)
	fill(&c.CompareEvery, d.CompareEvery)
	fill(&c.NotesEvery, d.NotesEvery)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// maxMessage bounds Message: peers read no larger one.
const maxMessage = 1 << 20

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	f := c.filled()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("copies: "+format, args...))
		}
	}
	check(c.Node != "", "no node id")
	check(f.Copies > 0, "number of copies %d is negative", c.Copies)
	check(f.MinCopies > 0 && f.MinCopies <= f.Copies, "least number of copies %d is not within 1 to %d", f.MinCopies, f.Copies)
	check(f.Incoming > 0, "limit of blobs that come in %d is negative", c.Incoming)
	check(f.Message > 0 && f.Message <= maxMessage, "message of %d bytes is not within 1 to %d", f.Message, maxMessage)
	check(c.RepairRate >= 0, "repair rate %d is negative", c.RepairRate)
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"stall", f.Stall},
		{"time to commit", f.Commit},
		{"time between comparisons", f.CompareEvery},
		{"time between looks at notes", f.NotesEvery},
	} {
		check(t.d > 0, "%s %v is negative", t.name, t.d)
	}
	check(c.Grace >= 0, "grace %v is negative", c.Grace)
	return errors.Join(errs...)
}
