package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	logFile     = "raft.db"
	snapshotDir = "snapshots"
)

// A replica is one copy of one catalog: raft, its stores, and the machine that it drives.
type replica struct {
	catalog, name string
	cfg           Config
	log           *slog.Logger
	raft          *raft.Raft
	machine       *machine
	layer         *layer
	transport     *raft.NetworkTransport
	store         *logStore
	born          time.Time
	confirm       confirmer

	ready   atomic.Uint64 // the term in which this leader knows all that was committed before
	quiet   atomic.Uint64 // an index that the machine had reached, with all before it
	barrier barrier
	ctx     context.Context //nolint:containedctx // ends when the replica is closed; raft's futures know no context
	cancel  context.CancelFunc
	waiting sync.WaitGroup

	mu     sync.Mutex
	closed bool // nothing waits any more
}

// A confirmer tells whether a majority of the voters has seen no later term than r's.
type confirmer func(ctx context.Context, r *replica, term uint64) bool

// openReplica starts the replica that id speaks of. found makes a catalog of it alone, once.
func openReplica(cfg Config, parts Parts, log *slog.Logger, id identity, found bool, confirm confirmer) (*replica, error) {
	r := &replica{
		catalog: id.Catalog, name: id.Raft, cfg: cfg, log: log, machine: newMachine(), born: time.Now(),
		layer: newLayer(id.Catalog, id.Raft, cfg, parts), confirm: confirm,
	}
	r.ctx, r.cancel = context.WithCancel(closing{r.layer.closed})
	if err := r.start(found); err != nil {
		return nil, errors.Join(fmt.Errorf("start replica: %w", err), r.close(false))
	}
	return r, nil
}

func (r *replica) start(found bool) error {
	log := newRaftLog(r.log)
	var err error
	if r.store, err = openLog(filepath.Join(r.cfg.Dir, logFile), logOptions{noSync: r.cfg.NoSync, journalBytes: r.cfg.journalBytes}); err != nil {
		return err
	}
	dir := filepath.Join(r.cfg.Dir, snapshotDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, log)
	if err != nil {
		return err
	}
	r.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: log, Stream: r.layer, MaxPool: 3, Timeout: r.cfg.RPC,
		// One request under way to each voter, which takes all that has come meanwhile. With more, raft's pipeline waits
		// for ever to hand in the next request when an answer has ended it, and neither steps down nor ends.
		MaxRPCsInFlight: 1,
	})
	conf := r.config()
	logs := raftStore{r.store, r.cfg.BeforeSync}
	if found {
		alone := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: place(r.name, r.cfg.Node)}}}
		if err := raft.BootstrapCluster(conf, r.store, r.store, snapshots, r.transport, alone); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return err
		}
	}
	r.raft, err = raft.NewRaft(conf, r.machine, logs, patientStable{r.store, r.layer.closed, r.log}, snapshots, r.transport)
	if err == nil {
		r.hurry()
	}
	return err
}

// hurry has a replica that is alone stand for election at once: there is no leader that it could wait for. Raft looks at
// its timer anew when the time becomes shorter.
func (r *replica) hurry() {
	if servers := r.servers(); len(servers) != 1 || servers[0].ID != raft.ServerID(r.name) {
		return
	}
	conf := r.raft.ReloadableConfig()
	conf.HeartbeatTimeout--
	_ = r.raft.ReloadConfig(conf) // where that is too short already, the timer runs
}

// raftStore is the log as raft is given it. It does not say that it has no gaps: to a store that says so, raft drops
// the whole log when it installs a snapshot, goes on as if it still had what came after the snapshot, and so forgets
// entries that it has acknowledged.
type raftStore struct {
	*logStore
	wait func() // before entries are stored, or nil
}

// IsMonotonic hides that of the log.
func (raftStore) IsMonotonic() bool { return false }

// StoreLogs implements raft.LogStore. Entries that begin after a gap follow a snapshot, which has all that the log has
// before the gap.
func (s raftStore) StoreLogs(entries []*raft.Log) error {
	if s.wait != nil {
		s.wait()
	}
	first, _ := s.FirstIndex() // from memory
	last, _ := s.LastIndex()
	if len(entries) > 0 && last > 0 && entries[0].Index > last+1 {
		if err := s.DeleteRange(first, last); err != nil {
			return err
		}
	}
	return s.logStore.StoreLogs(entries)
}

// StoreLog implements raft.LogStore.
func (s raftStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (r *replica) config() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(r.name)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = r.cfg.Heartbeat, r.cfg.Heartbeat, r.cfg.Lease
	conf.SnapshotInterval, conf.SnapshotThreshold, conf.TrailingLogs = r.cfg.SnapshotEvery, r.cfg.SnapshotAfter, r.cfg.Trailing
	conf.MaxAppendEntries = 256
	conf.BatchApplyCh = true
	conf.ShutdownOnRemove = false // the replica is closed by whoever opened it
	conf.NoLegacyTelemetry = true
	conf.Logger = newRaftLog(r.log)
	return conf
}

// close stops raft and everything that waits for it. A leader that goes in peace hands its office over first.
func (r *replica) close(peace bool) error {
	if r.raft != nil {
		if peace && r.leads() && len(r.servers()) > 1 {
			_ = r.raft.LeadershipTransfer().Error() // nobody may be there to take over
		}
	}
	var stopped raft.Future
	if r.raft != nil {
		stopped = r.raft.Shutdown()
	}
	r.cancel()
	_ = r.layer.Close()
	var err error
	if stopped != nil {
		err = stopped.Error()
	}
	if r.transport != nil {
		err = errors.Join(err, r.transport.Close())
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.waiting.Wait()
	if r.store != nil {
		err = errors.Join(err, r.store.Close())
	}
	return err
}

// spawn runs f on a goroutine that close waits for, unless the replica is closed.
func (r *replica) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.waiting.Go(f)
	}
	return !r.closed
}

// removeState takes away what a replica that was given up leaves on disk.
func removeState(dir string) error {
	return errors.Join(os.RemoveAll(filepath.Join(dir, logFile)),
		os.RemoveAll(filepath.Join(dir, logFile+".journal")), os.RemoveAll(filepath.Join(dir, snapshotDir)))
}

func (r *replica) leads() bool { return r.raft.State() == raft.Leader }

// leader is the node that this replica takes for the leader, and its replica, or "".
func (r *replica) leader() (node, name string) {
	address, _ := r.raft.LeaderWithID()
	name, node = readPlace(address)
	return node, name
}

// servers are the replicas of raft's latest configuration.
func (r *replica) servers() []raft.Server { return r.raft.GetConfiguration().Configuration().Servers }

// apply appends a command and waits until it is applied. errNotLeader says that it was not appended; ErrUncertain that
// it cannot be told.
func (r *replica) apply(ctx context.Context, c Command) (Result, error) {
	if !r.leads() {
		return Result{}, errNotLeader
	}
	c.Time = time.Now()
	future := r.raft.Apply(c.marshal(), r.cfg.Ask)
	err, waited := r.await(ctx, future)
	switch {
	case !waited:
		return Result{}, fmt.Errorf("%w: %w", ErrUncertain, context.Cause(ctx))
	case err == nil:
		return future.Response().(Result), nil
	case notAppended(err):
		return Result{}, errNotLeader
	}
	return Result{}, fmt.Errorf("%w: %w", ErrUncertain, err)
}

// notAppended tells the errors by which raft says that a command never reached the log.
func notAppended(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// await waits for a future of raft, which resolves at the latest when the replica is closed.
func (r *replica) await(ctx context.Context, f raft.Future) (err error, waited bool) { //nolint:revive // the error is the future's
	done := make(chan error, 1)
	if !r.spawn(func() { done <- f.Error() }) {
		return raft.ErrRaftShutdown, true
	}
	select {
	case err := <-done:
		return err, true
	case <-ctx.Done():
		return nil, false
	}
}

// readIndex is an index that a reader must have seen to see every write that was answered before the call. Calls that
// come meanwhile share one question to the voters.
func (r *replica) readIndex(ctx context.Context) (uint64, error) {
	return r.barrier.wait(ctx, r.spawn, r.askVoters)
}

func (r *replica) askVoters() (uint64, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Ask)
	defer cancel()
	if !r.leads() {
		return 0, errNotLeader
	}
	term := r.raft.CurrentTerm()
	if err := r.settle(ctx, term); err != nil {
		return 0, err
	}
	index := r.raft.CommitIndex()
	if !r.confirm(ctx, r, term) || !r.leads() || r.raft.CurrentTerm() != term {
		return 0, errNotLeader
	}
	return index, nil
}

// settle makes sure that this leader has committed an entry of its own term: until then it does not know all that the
// one before it had committed.
func (r *replica) settle(ctx context.Context, term uint64) error {
	if r.ready.Load() == term {
		return nil
	}
	err, waited := r.await(ctx, r.raft.Barrier(r.cfg.Ask))
	if !waited || err != nil {
		return errNotLeader
	}
	r.ready.Store(term)
	return nil
}

// reach waits until the machine has applied everything up to index.
func (r *replica) reach(ctx context.Context, index uint64) error {
	const step = 500 * time.Microsecond
	for !r.reached(index) {
		if err := r.machine.health(); err != nil {
			return err
		}
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return fmt.Errorf("%w: this replica lags", ErrNoQuorum)
		case <-r.layer.closed:
			return fmt.Errorf("%w: the replica is closed", ErrNoQuorum)
		}
	}
	return nil
}

// reached tells whether the machine has seen all that it will ever see of the entries up to index: raft keeps some to
// itself.
func (r *replica) reached(index uint64) bool {
	if index <= r.quiet.Load() || index <= r.machine.view().Index() {
		return true
	}
	if r.raft.AppliedIndex() < index {
		return false
	}
	for i := index; i > r.machine.view().Index(); i-- {
		var entry raft.Log
		if err := r.store.GetLog(i, &entry); err != nil {
			return errors.Is(err, raft.ErrLogNotFound) // cut off, so the machine has seen it, or a snapshot with it
		}
		if entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration {
			return i <= r.machine.view().Index()
		}
	}
	for old := r.quiet.Load(); old < index && !r.quiet.CompareAndSwap(old, index); old = r.quiet.Load() {
	}
	return true
}

// barrier lets calls share one round: who comes while a round is under way waits for the next.
type barrier struct {
	mu      sync.Mutex
	running bool
	next    *round
}

type round struct {
	done  chan struct{}
	index uint64
	err   error
}

func (b *barrier) wait(ctx context.Context, spawn func(func()) bool, ask func() (uint64, error)) (uint64, error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	mine := b.next
	start := !b.running
	b.running = true
	b.mu.Unlock()
	if start && !spawn(func() { b.drain(ask) }) {
		return 0, fmt.Errorf("%w: the replica is closed", ErrNoQuorum)
	}
	select {
	case <-mine.done:
		return mine.index, mine.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrNoQuorum, context.Cause(ctx))
	}
}

func (b *barrier) drain(ask func() (uint64, error)) {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		b.running = r != nil
		b.mu.Unlock()
		if r == nil {
			return
		}
		r.index, r.err = ask()
		close(r.done)
	}
}
