package catalog

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// fullDisk fails until a time.
type fullDisk struct {
	raft.StableStore
	until time.Time
}

func (d fullDisk) SetUint64(key []byte, value uint64) error {
	if time.Now().Before(d.until) {
		return errors.New("no space left on device")
	}
	return d.StableStore.SetUint64(key, value)
}

func TestATermWaitsForTheDiskInsteadOfEndingTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := fullDisk{raft.NewInmemStore(), time.Now().Add(time.Minute)}
		closed := make(chan struct{})
		s := patientStable{disk, closed, slog.New(slog.DiscardHandler)}
		start := time.Now()
		if err := s.SetUint64([]byte("term"), 7); err != nil || time.Since(start) != time.Minute {
			t.Errorf("SetUint64 = %v after %v; want none after a minute", err, time.Since(start))
		}
		if got, err := disk.GetUint64([]byte("term")); err != nil || got != 7 {
			t.Errorf("GetUint64 = %d, %v; want 7", got, err)
		}
		s.StableStore = fullDisk{raft.NewInmemStore(), time.Now().Add(time.Hour)}
		start = time.Now()
		time.AfterFunc(time.Second/2, func() { close(closed) })
		if err := s.SetUint64([]byte("term"), 8); err != nil || time.Since(start) != time.Second/2 {
			t.Errorf("SetUint64 of a replica that is closed = %v after %v; want an end at once", err, time.Since(start))
		}
	})
}
