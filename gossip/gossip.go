package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"
)

// Gossip is this node's part in the farm's gossip. New makes one, Run does the
// work.
type Gossip struct {
	cfg         Config
	log         *slog.Logger
	conflictLog *rate.Limiter
	padding     int
	table       *table
	agreement   agreement
	seats       *seatTable
	keys        *keys
	refused     *refusals

	updateMu sync.Mutex // orders what this node says of itself
	meta     atomic.Pointer[[]byte]
	list     atomic.Pointer[memberlist.Memberlist] // nil unless Run runs

	started    chan struct{}
	joined     chan struct{}
	joinedOnce sync.Once
	touched    chan struct{}
	said       chan struct{}
	changed    chan struct{}
	contacts   chan string // addresses of nodes that a peer knows and this one does not
}

// New makes the Gossip of a node that says that it is Joining. It takes no port
// and starts nothing.
func New(cfg Config, log *slog.Logger) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	keys, err := newKeys(cfg.Keys)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g := &Gossip{
		cfg:         cfg,
		log:         log,
		conflictLog: rate.NewLimiter(rate.Every(time.Minute), 1),
		padding:     rand.IntN(maxPadding),
		table:       newTable(cfg.ID, cfg.HoldDown),
		agreement:   agreement{differs: make(map[string]difference)},
		seats:       newSeatTable(cfg),
		keys:        keys,
		refused:     newRefusals(log),
		started:     make(chan struct{}),
		joined:      make(chan struct{}),
		touched:     make(chan struct{}, 1),
		said:        make(chan struct{}, 1),
		changed:     make(chan struct{}, 1),
		contacts:    make(chan string, maxContacts),
	}
	_, err = g.say(cfg.self())
	return g, err
}

// Run gossips until ctx ends. It returns an error when the address cannot be
// taken, else nil, after it has told the others that this node stops. That alone
// leaves the node its place in the ring for HoldDown, so that a restart moves
// nothing: call Leave before when the node is not to come back. Run can be called
// once.
func (g *Gossip) Run(ctx context.Context) error {
	stopping := make(chan struct{})
	conf, err := g.memberlistConfig(stopping)
	if err != nil {
		return err
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		_ = conf.Transport.Shutdown()
		return fmt.Errorf("start gossip on %s: %w", g.cfg.Listen, err)
	}
	g.list.Store(list)
	if err := g.UpdateSelf(func(m *Member) { m.GossipAddr = list.LocalNode().Address() }); err != nil {
		return err
	}
	close(g.started)

	var work sync.WaitGroup
	work.Go(func() { g.tell(ctx) })
	work.Go(func() { g.join(ctx, list) })
	<-ctx.Done()
	close(stopping) // a join that still waits for a silent node ends now
	work.Wait()
	g.list.Store(nil)
	if err := list.Leave(g.cfg.Timings.GoodbyeTimeout); err != nil {
		g.log.LogAttrs(ctx, slog.LevelDebug, "no goodbye", slog.Any("error", err))
	}
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

func (g *Gossip) memberlistConfig(stopping <-chan struct{}) (*memberlist.Config, error) {
	t := g.cfg.Timings
	d := delegate{g}
	conf := memberlist.DefaultLANConfig()
	conf.Name = g.cfg.ID
	conf.ProbeInterval, conf.ProbeTimeout, conf.SuspicionMult = t.ProbeInterval, t.ProbeTimeout, t.SuspicionMult
	conf.GossipInterval, conf.PushPullInterval = t.GossipInterval, t.ExchangeInterval
	conf.GossipToTheDeadTime, conf.TCPTimeout = t.ExchangeInterval, t.StreamTimeout
	// A node that comes back may have another address.
	conf.DeadNodeReclaimTime = time.Millisecond
	conf.Keyring, conf.GossipVerifyIncoming, conf.GossipVerifyOutgoing = g.keys.ring, true, true
	conf.Delegate, conf.Events, conf.Conflict, conf.Merge, conf.Alive = d, d, d, d, d
	conf.Logger = newLibraryLogger(g.log)
	conf.AdvertiseAddr, conf.AdvertisePort = "", 0
	if g.cfg.Transport != nil {
		conf.Transport = openGate(g, g.cfg.Transport)
		return conf, nil
	}
	listen, advertise, err := g.cfg.addresses()
	if err != nil {
		return nil, err
	}
	transport, err := newNetTransport(listen, conf.Logger, stopping)
	if err != nil {
		return nil, err
	}
	conf.Transport = openGate(g, transport)
	conf.AdvertiseAddr, conf.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
	if conf.AdvertisePort == 0 {
		conf.AdvertisePort = transport.GetAutoBindPort()
	}
	return conf, nil
}

// Started is closed once this node has its address and others can reach it.
func (g *Gossip) Started() <-chan struct{} { return g.started }

// Joined is closed once this node has met another one, or has nobody to ask.
func (g *Gossip) Joined() <-chan struct{} { return g.joined }

// Changed carries a value some time after the members, or those of the ring, have
// changed: once for many changes that come together. It is for one reader.
func (g *Gossip) Changed() <-chan struct{} { return g.changed }

// Members lists all members by ID, this node among them, and those that are Gone
// or have Left within HoldDown.
func (g *Gossip) Members() []Member { return g.table.members() }

// RingMembers lists the members with a place in the ring by ID: the active ones,
// and those that were and are joining anew or gone for less than HoldDown. Zone
// and Egress are those they had when last active.
func (g *Gossip) RingMembers() []Member { return g.table.ring() }

// Member returns one member.
func (g *Gossip) Member(id string) (Member, bool) { return g.table.member(id) }

// Self returns this node.
func (g *Gossip) Self() Member {
	m, _ := g.table.member(g.cfg.ID)
	return m
}

// UpdateSelf changes what this node says of itself: all but ID, BootID and
// RingHash may change. Nothing changes when the error is not nil: State must be
// Joining, Active or Draining, and the texts must fit. It does not wait for the
// others to hear.
func (g *Gossip) UpdateSelf(change func(*Member)) error {
	g.updateMu.Lock()
	defer g.updateMu.Unlock()
	m := g.Self()
	change(&m)
	m.ID, m.BootID = g.cfg.ID, g.cfg.BootID
	news, err := g.say(m)
	if err != nil || !news {
		return err
	}
	if list := g.list.Load(); list != nil {
		_ = list.UpdateNode(time.Nanosecond) // the error says only that it was not waited for
		signal(g.said)
	}
	return nil
}

// sayAgain tells the others once more what this node says of itself.
func (g *Gossip) sayAgain() {
	g.updateMu.Lock()
	defer g.updateMu.Unlock()
	if list := g.list.Load(); list != nil {
		_ = list.UpdateNode(time.Nanosecond)
	}
}

// Leave tells the farm that this node gives up its place in the ring, and waits
// until that has gone out or ctx ends. End Run afterwards.
func (g *Gossip) Leave(ctx context.Context) error {
	if err := g.UpdateSelf(func(m *Member) { m.State = Draining }); err != nil {
		return err
	}
	list := g.list.Load()
	if list == nil {
		return nil
	}
	end := time.Now().Add(g.cfg.Timings.GoodbyeTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	// Several short waits: a message that the library lost is never reported sent.
	for {
		err := list.UpdateNode(max(min(time.Until(end), soon*g.cfg.Timings.GossipInterval), time.Nanosecond))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !time.Now().Before(end) {
			return fmt.Errorf("leave the ring: %w", err)
		}
	}
}

// say sets what this node says of itself, and tells whether that is new.
func (g *Gossip) say(m Member) (news bool, err error) {
	meta, err := encodeMeta(m, g.cfg.Farm, g.padding)
	if err != nil {
		return false, fmt.Errorf("describe this node: %w", err)
	}
	before := g.meta.Swap(&meta)
	g.table.alive(m, meta, time.Now())
	g.touch()
	return before == nil || !bytes.Equal(*before, meta), nil
}

func (g *Gossip) currentMeta() []byte { return *g.meta.Load() }

// touch notes that something has changed. It never blocks.
func (g *Gossip) touch() { signal(g.touched) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// The library's broadcast queue (memberlist v0.7.0) can lose a message: when one
// is replaced while it is the only one, ids start anew, and a later message of the
// same length may take the same id and its place. So the metadata of nodes differ
// in length, and what a node says of itself is said again, soon and later, when
// the queue has most likely run empty. The numbers count gossip intervals.
const soon, later = 5, 25

// tell turns touches into Changed, ends hold-downs in time, and says again what
// this node has said of itself.
func (g *Gossip) tell(ctx context.Context) {
	t := g.cfg.Timings
	settle, holds, again := time.NewTimer(0), time.NewTimer(0), time.NewTimer(jitter(later*t.GossipInterval))
	defer settle.Stop()
	defer holds.Stop()
	defer again.Stop()
	settle.Stop()
	saidSoon := true
	var latest time.Time // when Changed must be told at the latest; zero: nothing to tell
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.touched:
			if latest.IsZero() {
				latest = time.Now().Add(t.SettleMax)
			}
			settle.Reset(min(t.Settle, time.Until(latest)))
		case <-settle.C:
			latest = time.Time{}
			signal(g.changed)
		case <-g.said:
			saidSoon = false
			again.Reset(jitter(soon * t.GossipInterval))
		case <-again.C:
			g.sayAgain()
			if !saidSoon {
				saidSoon = true
				again.Reset(jitter((later - soon) * t.GossipInterval))
			}
		case <-holds.C:
		}
		g.endHolds(holds)
	}
}

// jitter returns d, give or take a half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func (g *Gossip) endHolds(holds *time.Timer) {
	changed, next := g.table.expire(time.Now())
	if changed {
		g.agreement.forget(func(id string) bool { _, ok := g.table.member(id); return ok })
		g.touch()
	}
	if next.IsZero() {
		holds.Stop()
		return
	}
	holds.Reset(time.Until(next))
}
