package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// progressEvery is how often a terminal is told that something goes on.
const progressEvery = time.Second

// progress shows on a terminal that something goes on, for how long it has, and how many bytes have come if bytes is
// not nil. What it returns takes the line away again.
func (o *options) progress(what string, bytes func() int64) (stop func()) {
	if !terminal(o.stderr) {
		return func() {}
	}
	done := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() { showProgress(o.stderr, what, bytes, done) })
	return sync.OnceFunc(func() {
		close(done)
		shown.Wait()
	})
}

func showProgress(w io.Writer, what string, bytes func() int64, done <-chan struct{}) {
	start := time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			_, _ = io.WriteString(w, "\r\x1b[K")
			return
		case <-tick.C:
			line := fmt.Sprintf("%s: %v", what, time.Since(start).Round(time.Second))
			if bytes != nil {
				line += ", " + size(bytes())
			}
			_, _ = io.WriteString(w, "\r"+line+"\x1b[K")
		}
	}
}

// say tells people what is about to happen; programs read the result alone.
func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.stderr, "p2pctl: %s\n", printable(fmt.Sprintf(format, args...)))
}

// counted counts what is written through it.
type counted struct {
	w io.Writer
	n atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}
