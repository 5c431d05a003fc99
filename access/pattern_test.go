package access_test

import (
	"testing"

	"github.com/pullonce/pullonce/access"
)

func TestPatternsMatchWholeElementsOfAPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*", "library/app", true},
		{"team/*", "team/app", true},
		{"team/*", "team/app/debug", true},
		{"team/*", "team", false},
		{"team/*", "teams/app", false},
		{"team/app", "team/app", true},
		{"team/app", "team/app/debug", false},
		{"team/app", "team/apple", false},
	} {
		p, err := access.ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(c.path); got != c.want {
			t.Errorf("ParsePattern(%q).Match(%q) = %v; want %v", c.pattern, c.path, got, c.want)
		}
		if p.String() != c.pattern {
			t.Errorf("ParsePattern(%q).String() = %q", c.pattern, p.String())
		}
	}
	if (access.Pattern{}).Match("") || (access.Pattern{}).Match("app") {
		t.Error("the zero pattern matches")
	}
}

func TestWhatIsNoPatternIsRefused(t *testing.T) {
	for _, text := range []string{"", "/", "/*", "team*", "te*m/app", "Team/app", "team/*/app", "team/", "../app", "**"} {
		if p, err := access.ParsePattern(text); err == nil {
			t.Errorf("ParsePattern(%q) = %v; want an error", text, p)
		}
	}
}
