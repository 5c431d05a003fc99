package trust

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// writeAgain is how long it is until what could not be written is tried again.
const writeAgain = 5 * time.Second

// What is kept on disk and holds before it is there: a full disk must not keep a revoked node in or a certificate from
// being renewed. The order is that of writing, as the certificate depends on the state.
const (
	dueState = iota
	dueCertificate
	dueServing
	dueKinds
)

// dues are what holds and is not on disk yet.
type dues struct {
	kick chan struct{} // wakes the loop that writes

	mu   sync.Mutex
	owed [dueKinds]bool
	why  [dueKinds]string // it could not be written when it was tried
}

// owe notes that something is to be written.
func (d *dues) owe(kind int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owed[kind] = true
}

// tried notes what became of writing it.
func (d *dues) tried(kind int, err error) (before string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before = d.why[kind]
	d.owed[kind], d.why[kind] = err != nil, ""
	if err != nil {
		d.why[kind] = err.Error()
	}
	return before
}

func (d *dues) list() (owed [dueKinds]bool, why [dueKinds]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.owed, d.why
}

// dueNames are what the kinds are for people.
func dueNames() [dueKinds]string {
	return [...]string{"what the farm has agreed on", "this node's certificate", "the certificate of the registry"}
}

// Trouble says what this node goes by and cannot write to its disk, and why, or "". It is tried again and again; until it
// is written, a restart goes back to what is on disk.
func (t *Trust) Trouble() string {
	_, why := t.dues.list()
	var list []string
	for kind, name := range dueNames() {
		if why[kind] != "" {
			list = append(list, name+" cannot be written: "+why[kind])
		}
	}
	return strings.Join(list, "; ")
}

// write writes what is owed, as it holds now. The caller has the turn. What fails is tried again by Run.
func (t *Trust) write() {
	owed, _ := t.dues.list()
	for kind, write := range [dueKinds]func() error{t.writeState, t.writeCertificate, t.writeServing} {
		if !owed[kind] {
			continue
		}
		err := write()
		t.noteWritten(dueNames()[kind], err, t.dues.tried(kind, err))
		if err == nil {
			continue
		}
		select {
		case t.dues.kick <- struct{}{}:
		default:
		}
		if kind == dueState {
			return // a certificate that is on disk without its authority cannot be read again
		}
	}
}

// noteWritten says when something cannot be written, once for each cause, and when it could be at last.
func (t *Trust) noteWritten(name string, err error, before string) {
	switch {
	case err == nil && before != "":
		t.log.Info("written at last", slog.String("what", name))
	case err != nil && err.Error() != before:
		t.log.Error("cannot be written: it holds until this node is restarted, and is tried again", slog.String("what", name), slog.Any("error", err))
	}
}

// keepWritten tries again to write what is owed, until ctx ends.
func (t *Trust) keepWritten(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.dues.kick:
		}
		if err := pauseFor(ctx, writeAgain); err != nil {
			return err
		}
		t.writeInTurn()
	}
}

func (t *Trust) writeInTurn() {
	defer t.takeTurn()()
	t.write()
}

func (t *Trust) writeState() error { return t.keepState(t.view.Load()) }

func (t *Trust) writeCertificate() error {
	return t.disk.write(nodeCert, encodeCertificates(t.own.Load().pair.Certificate))
}

func (t *Trust) writeServing() error { return t.keepServingPair(t.serving.pair.Load()) }
