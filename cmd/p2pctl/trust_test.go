package main

import (
	"strings"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
)

func TestNoTrustIsRed(t *testing.T) {
	for _, row := range []struct {
		modes  map[string]int
		colour bool
		want   string
	}{
		{map[string]int{"none": 2}, true, "\x1b[31mtrust none\x1b[0m\n"},
		{map[string]int{"none": 1, "auto": 1}, true, "\x1b[31mtrust auto on 1, none on 1\x1b[0m\n"},
		{map[string]int{"none": 2}, false, "\ntrust none\n"},
		{map[string]int{"auto": 2}, true, "\ntrust auto\n"},
	} {
		s := adminapi.FarmStatus{Farm: "lab", Trust: &adminapi.FarmTrust{Modes: row.modes}}
		if got := statusText(s, row.colour); !strings.Contains(got, row.want) {
			t.Errorf("statusText(%v, colour %v) = %q; want %q in it", row.modes, row.colour, got, row.want)
		}
	}
}
