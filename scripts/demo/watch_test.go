package main

import (
	"strings"
	"testing"
	"time"
)

func TestLinesFitTheTerminal(t *testing.T) {
	hosts := []*host{{name: "127.0.0.1"}, {name: "127.0.0.1:43210"}}
	engines := []*engine{newEngine("", image{}), newEngine("", image{})}
	engines[0].total.Store(1000)
	engines[0].got.Store(500)
	for _, width := range []int{20, 60, 80, 200} {
		var out strings.Builder
		w := newWatch(&out, hosts, engines, nil)
		w.width, w.signs = width, [2]string{"#", "."}
		w.hosts[0].note(500, time.Now().Add(time.Second))
		w.bars()
		w.bars()
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 6 {
			t.Fatalf("two drawings at width %d have %d lines; want 6", width, len(lines))
		}
		if !strings.HasPrefix(lines[3], "\x1b[3A") {
			t.Errorf("second drawing begins with %q; want the cursor to go up 3 lines", lines[3])
		}
		for _, line := range lines {
			_, text, _ := strings.Cut(line, "\x1b[2K")
			if n := len([]rune(text)); n >= width {
				t.Errorf("line %q has %d columns; want fewer than %d", text, n, width)
			}
		}
		bar := strings.Fields(lines[0] + " .")[1]
		if width >= 80 && (strings.Count(bar, "#") != w.barColumns()/2 || !strings.Contains(lines[0], " 50%")) {
			t.Errorf("line %q at half; want half a bar", lines[0])
		}
	}
}

func TestSizesAreShownAsLinksAreRated(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 419_530_216: "419.5 MB", 2_097_651_080: "2.10 GB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q; want %q", n, got, want)
		}
	}
}
