package access

import (
	"fmt"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// A Pattern matches repositories by their path below an upstream: "library/app" that one alone, "team/*" all below team,
// however deep, "*" all. The zero Pattern matches none.
type Pattern struct {
	prefix string // with its last slash; "" with all
	exact  string
	all    bool
}

// ParsePattern reads a pattern. A star may stand only at the end, alone or after a slash.
func ParsePattern(text string) (Pattern, error) {
	if text == "*" {
		return Pattern{all: true}, nil
	}
	path, below := strings.CutSuffix(text, "/*")
	if err := oci.CheckPath(path); err != nil {
		return Pattern{}, fmt.Errorf("pattern %.100q: want a repository, such as team/app, or all below one, such as team/*, or *", text)
	}
	if below {
		return Pattern{prefix: path + "/"}, nil
	}
	return Pattern{exact: path}, nil
}

// Match tells whether the repository of that path is one of the pattern's.
func (p Pattern) Match(path string) bool {
	switch {
	case p.all:
		return true
	case p.prefix != "":
		return strings.HasPrefix(path, p.prefix)
	}
	return p.exact != "" && path == p.exact
}

// String is the pattern as it is written.
func (p Pattern) String() string {
	switch {
	case p.all:
		return "*"
	case p.prefix != "":
		return p.prefix + "*"
	}
	return p.exact
}
