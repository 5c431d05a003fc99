package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printTable writes the results for a person at a terminal.
func printTable(w io.Writer, r *results) error {
	_, _ = fmt.Fprintf(w, "\n%s, %s\n%s\n", r.Date.Format(time.RFC3339), r.Version, r.Machine)
	if r.Quick {
		_, _ = fmt.Fprintln(w, "QUICK: smaller than it should be, one run; not to be quoted.")
	}
	_, _ = fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "FIGURE\tWHAT\tMEDIAN\tMIN..MAX\tN\tUNIT\tTARGET\t\tKNOWN")
	for _, s := range r.Figures {
		for _, l := range s.Lines {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n",
				s.Name, l.What, l.middle(), l.spread(), len(l.Values), l.Unit, l.Goal, l.Verdict, l.Known)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Figures {
		for _, remark := range s.remarks() {
			_, _ = fmt.Fprintf(w, "%s: %s\n", s.Name, remark)
		}
	}
	return nil
}

// remarks are a figure's notes, and why it has no or not all numbers.
func (s *sheet) remarks() []string {
	remarks := append([]string(nil), s.Notes...)
	if s.Skipped != "" {
		remarks = append(remarks, "skipped: "+s.Skipped)
	}
	if s.Error != "" {
		remarks = append(remarks, "FAILED: "+s.Error)
	}
	return remarks
}

func (l *line) middle() string {
	if len(l.Values) == 0 {
		return "-"
	}
	return number(l.Median)
}

func (l *line) spread() string {
	if len(l.Values) < 2 {
		return ""
	}
	return number(l.Min) + ".." + number(l.Max)
}

// reportFiles writes the tables of docs/performance.md from result files.
func reportFiles(w io.Writer, paths []string) error {
	for _, path := range paths {
		r, err := readResults(path)
		if err != nil {
			return err
		}
		if err := printMarkdown(w, r); err != nil {
			return err
		}
	}
	return nil
}

func printMarkdown(w io.Writer, r *results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with version %s: %s. %d runs of each figure, 5 or more of pairs.\n\n",
		r.Date.Format("2 January 2006"), r.Version, r.Machine, r.Runs)
	if r.Quick {
		b.WriteString("**A quick try with an eighth of the bytes: not to be quoted.**\n\n")
	}
	b.WriteString("| figure | what | median | min to max | target | | known of others |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range r.Figures {
		for _, l := range s.Lines {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", s.Name, cell(l.What), withUnit(l.middle(), l.Unit),
				strings.Replace(l.spread(), "..", " to ", 1), l.Goal, l.Verdict, cell(l.Known))
		}
	}
	b.WriteString("\n")
	for _, s := range r.Figures {
		for _, remark := range s.remarks() {
			fmt.Fprintf(&b, "- `%s`: %s\n", s.Name, remark)
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func withUnit(text, unit string) string {
	if unit == "" || text == "-" {
		return text
	}
	return text + " " + unit
}
