package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The bars are drawn here rather than by a library: those that draw several bars at once bring more code than this
// whole program has, and here every line is a few words and one bar.

const (
	redraw      = 200 * time.Millisecond // on a terminal
	plainReport = 2 * time.Second        // elsewhere
)

// A watch shows how far pulls are: bars that move on a terminal, else a line from time to time.
type watch struct {
	out     io.Writer
	width   int      // of the terminal in columns; 0: none
	names   []string // of the hosts
	engines []*engine
	link    *link
	signs   [2]string // of a bar: what is there, and what is not

	start time.Time
	hosts []gauge
	over  gauge // the link
	drawn bool
}

func newWatch(out io.Writer, hosts []*host, engines []*engine, l *link) *watch {
	w := &watch{
		out: out, width: columns(out), engines: engines, link: l, signs: [2]string{"#", "."},
		start: time.Now(), hosts: make([]gauge, len(engines)),
	}
	if utf8Terminal() {
		w.signs = [2]string{"█", "░"}
	}
	for i, h := range hosts {
		w.hosts[i].from = w.start
		w.names = append(w.names, h.name)
	}
	w.over.from = w.start
	return w
}

// columns is the width of a terminal whose cursor can be moved, 0 for all else.
func columns(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not say
	}
	return int(size.Col)
}

func utf8Terminal() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(os.Getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// run shows until ctx is done, and then once more.
func (w *watch) run(ctx context.Context) {
	if w.out == io.Discard {
		return
	}
	every, show := plainReport, w.line
	if w.width > 0 {
		every, show = redraw, w.bars
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.measure(context.WithoutCancel(ctx))
			show()
			_, _ = fmt.Fprintln(w.out)
			return
		case <-tick.C:
			w.measure(ctx)
			show()
		}
	}
}

func (w *watch) measure(ctx context.Context) {
	now := time.Now()
	for i, e := range w.engines {
		w.hosts[i].note(e.got.Load(), now)
	}
	w.over.note(w.link.crossed(ctx), now)
}

// part is how much of its image host i has, from 0 to 1.
func (w *watch) part(i int) float64 {
	total := w.engines[i].total.Load()
	if total == 0 {
		return 0
	}
	return float64(w.hosts[i].value) / float64(total)
}

// line reports in one line, for logs.
func (w *watch) line() {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%5.1f s ", time.Since(w.start).Seconds())
	for i, name := range w.names {
		_, _ = fmt.Fprintf(&b, " %s %3.0f%%", name, 100*w.part(i))
	}
	_, _ = fmt.Fprintf(&b, "  over the link %s\n", size(w.over.value))
	_, _ = io.WriteString(w.out, b.String())
}

// bars draws a line for each host and one for the link, over those drawn before.
func (w *watch) bars() {
	var b strings.Builder
	if w.drawn {
		_, _ = fmt.Fprintf(&b, "\x1b[%dA", len(w.engines)+1)
	}
	w.drawn = true
	for i := range w.engines {
		speed := perSecond(w.hosts[i].speed)
		if w.part(i) == 1 {
			speed = "done"
		}
		w.draw(&b, w.names[i], w.bar(w.part(i)),
			fmt.Sprintf("%3.0f%% %9s %11s", 100*w.part(i), size(w.hosts[i].value), speed))
	}
	w.draw(&b, "upstream", w.arrow(), fmt.Sprintf("%4s %9s %11s", "", size(w.over.value), perSecond(w.over.speed)))
	_, _ = io.WriteString(w.out, b.String())
}

// The columns of a line: a name, a bar, and numbers; one space between.
const (
	nameColumns   = 15
	numberColumns = 26
	mostBar       = 50
)

// draw writes one line that is no wider than the terminal.
func (w *watch) draw(b *strings.Builder, name, bar, numbers string) {
	text := fmt.Sprintf("%-*s %s %s", nameColumns, name, bar, numbers)
	if r := []rune(text); len(r) >= w.width {
		text = string(r[:w.width-1])
	}
	_, _ = fmt.Fprintf(b, "\r\x1b[2K%s\n", text)
}

func (w *watch) barColumns() int {
	return min(max(w.width-nameColumns-numberColumns-3, 8), mostBar)
}

func (w *watch) bar(part float64) string {
	full := int(part * float64(w.barColumns()))
	return strings.Repeat(w.signs[0], full) + strings.Repeat(w.signs[1], w.barColumns()-full)
}

// arrow stands where hosts have a bar.
func (w *watch) arrow() string {
	n := w.barColumns()
	return fmt.Sprintf("%*s", n, "crossed the link: ")[max(0, len("crossed the link: ")-n):]
}

func perSecond(speed float64) string { return size(int64(speed)) + "/s" }
