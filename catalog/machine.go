package catalog

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/oci"
)

// A machine runs the commands of raft's log, one after the other, on one goroutine of raft. Whoever reads does so
// from the last finished state, which never changes, and waits for nobody.
type machine struct {
	current atomic.Pointer[state] // sealed
	stuck   atomic.Pointer[stuckError]
}

// A stuckError says that the log has a command of a later release. What comes after it would be applied to a wrong
// state, so nothing is.
type stuckError struct {
	index uint64
	err   error
}

func (e *stuckError) Error() string {
	return fmt.Sprintf("applying the command at %d: %v; nothing is applied from there on", e.index, e.err)
}
func (e *stuckError) Unwrap() error { return e.err }

// newMachine is a machine before the first command.
func newMachine() *machine {
	m := &machine{}
	m.publish(newState())
	return m
}

// view is the state after the last batch of commands. It does not wait.
func (m *machine) view() View { return View{m.current.Load()} }

// health is why the machine applies nothing any more, or nil.
func (m *machine) health() error {
	if e := m.stuck.Load(); e != nil {
		return e
	}
	return nil
}

func (m *machine) publish(s *state) {
	s.seal()
	m.current.Store(s)
}

// Apply carries out one entry; it returns a Result.
func (m *machine) Apply(entry *raft.Log) any {
	return m.ApplyBatch([]*raft.Log{entry})[0]
}

// ApplyBatch carries out entries in their order and shows the state once, after the last. It returns a Result for
// each.
func (m *machine) ApplyBatch(entries []*raft.Log) []any {
	next := *m.current.Load()
	results := make([]any, len(entries))
	for i, entry := range entries {
		results[i] = m.step(&next, entry)
	}
	m.publish(&next)
	return results
}

func (m *machine) step(s *state, entry *raft.Log) Result {
	if e := m.stuck.Load(); e != nil {
		return Result{Index: entry.Index, Err: e}
	}
	if entry.Type != raft.LogCommand {
		s.index = entry.Index
		return Result{Index: entry.Index}
	}
	c, err := unmarshalCommand(entry.Data)
	if errors.Is(err, oci.ErrUnsupported) {
		e := &stuckError{entry.Index, err}
		m.stuck.Store(e)
		return Result{Index: entry.Index, Err: e}
	}
	if err != nil { // every release refuses it
		s.index = entry.Index
		return Result{Index: entry.Index, Err: err}
	}
	return s.apply(entry.Index, c)
}

// Snapshot takes no time: the state is written later, while commands go on. A machine that is stuck gives none, so
// that the entries that it has not applied stay in the log until a release that knows them reads them.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.health(); err != nil {
		return nil, err
	}
	return snapshot{m.view()}, nil
}

// Restore puts the state of a snapshot in place of the one that is there. When it cannot be read whole and right, the
// old state stays.
func (m *machine) Restore(r io.ReadCloser) error {
	s, err := readSnapshot(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	m.stuck.Store(nil)
	m.publish(s)
	return nil
}
