package catalog

import (
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A voter is one raft of a farm of one, on disk.
type voter struct {
	*raft.Raft
	machine *machine
	store   *logStore
}

func startVoter(t *testing.T, dir string) voter {
	t.Helper()
	store := smallLog(t, filepath.Join(dir, "raft.db"))
	snapshots, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = "a", hclog.NewNullLogger()
	cfg.HeartbeatTimeout, cfg.ElectionTimeout = 50*time.Millisecond, 50*time.Millisecond
	cfg.LeaderLeaseTimeout, cfg.CommitTimeout, cfg.TrailingLogs = 50*time.Millisecond, time.Millisecond, 5
	address, transport := raft.NewInmemTransport("a")
	voters := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: address}}}
	if known, err := raft.HasExistingState(store, store, snapshots); err != nil {
		t.Fatal(err)
	} else if !known {
		if err := raft.BootstrapCluster(cfg, store, store, snapshots, transport, voters); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine()
	r, err := raft.NewRaft(cfg, m, store, store, snapshots, transport)
	if err != nil {
		t.Fatal(err)
	}
	return voter{r, m, store}
}

func TestRaftComesBackFromSnapshotAndLog(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		v := startVoter(t, dir)
		for leader := range v.LeaderCh() {
			if leader {
				break
			}
		}
		if err := v.Barrier(10 * time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		if got := len(v.machine.view().Tags("app", "", 1000)); got != 40*round {
			t.Fatalf("round %d begins with %d tags; want %d", round, got, 40*round)
		}
		for i := range 40 {
			put := image("app", "m")
			put.Tags = []string{fmt.Sprint("t", round, "-", i)}
			f := v.Apply(Command{start, put}.marshal(), 10*time.Second)
			if err := f.Error(); err != nil {
				t.Fatal(err)
			}
			if r := f.Response().(Result); r.Err != nil || r.Index != f.Index() {
				t.Fatalf("PutManifest = %+v at %d", r, f.Index())
			}
			if i == 20 && round != 1 {
				if err := v.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := v.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
		if err := v.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
