package catalog

import (
	"github.com/hashicorp/raft"
)

// A snapshot is a state on its way to disk.
type snapshot struct{ view View }

// Persist writes the state while commands go on.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.view.WriteTo(sink); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release has nothing to give back.
func (s snapshot) Release() {}
