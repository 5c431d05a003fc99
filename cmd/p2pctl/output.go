package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// writeJSON writes a document as the node sent it, numbers exact.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A table is rows of cells under a head. Columns that the head marks with a leading ">" are of numbers and end at the
// right.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

// add takes a row of as many cells as the head has; "" is shown as "-".
func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String is the table with two spaces between columns and none at the end of a line. Cells may hold what other nodes
// said of themselves: control characters do not reach the terminal.
func (t *table) String() string {
	right := make([]bool, len(t.rows[0]))
	width := make([]int, len(t.rows[0]))
	for r, row := range t.rows {
		for i, cell := range row {
			if r == 0 {
				row[i], right[i] = strings.CutPrefix(cell, ">")
			} else if row[i] = printable(cell); row[i] == "" {
				row[i] = "-"
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	var out strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if right[i] {
				line.WriteString(pad + cell + "  ")
			} else {
				line.WriteString(cell + pad + "  ")
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return out.String()
}

// printable is text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// size is a number of bytes for people.
func size(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// colours tells whether w is a terminal whose user has not turned colours off (https://no-color.org).
func colours(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && terminal(w)
}

// terminal tells whether w is one that can move its cursor.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// red is text in red, when wanted.
func red(text string, wanted bool) string {
	if !wanted {
		return text
	}
	return "\x1b[31m" + text + "\x1b[0m"
}
