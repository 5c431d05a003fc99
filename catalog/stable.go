package catalog

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// patientStable is raft's stable store on a disk that may be full for a while. Raft ends the process when it cannot
// store its term; here it waits instead, and another voter leads meanwhile.
type patientStable struct {
	raft.StableStore
	closed <-chan struct{} // the replica's: after it nothing that raft does gets out
	log    *slog.Logger
}

// SetUint64 implements raft.StableStore.
func (s patientStable) SetUint64(key []byte, value uint64) error {
	for {
		err := s.StableStore.SetUint64(key, value)
		if err == nil {
			return nil
		}
		s.log.LogAttrs(context.Background(), slog.LevelError, "catalog cannot write its term", slog.Any("error", err))
		select {
		case <-s.closed:
			return nil // no vote of this term leaves the node, so nobody relies on it
		case <-time.After(time.Second):
		}
	}
}
