package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

type sim struct {
	cfg      Config
	rng      *rand.Rand
	queue    queue
	hosts    []host // the last one is the upstream
	upstream int32
	owner    int32
	pieces   int
	toRead   []int32 // pieces that the owner is still to read from the upstream
	settling int     // joins that a successor waits for
	due      []Fault

	flows        []flow
	freeFlows    []int32
	messages     []message
	freeMessages []int32
	holds        []hold
	held         map[uint64]int32

	window                 int
	upQuantum, downQuantum time.Duration
	slowLinks              bool
	unfinished             int

	sent                             [kinds]int64
	messageBytes, lostMessages       int64
	bytes, upstreamBytes, crossBytes int64
	wasted, busy, duplicates, pushes int64
	liars                            int
}

// Run simulates a pull until every live host has the blob. The error says what is wrong
// with the configuration, or that hosts got stuck.
func Run(cfg Config) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	s := newSim(cfg)
	limit := time.Duration(50*float64(s.bound(0))) + time.Minute + time.Duration(cfg.Hosts)*cfg.Rolling
	for s.unfinished > 0 {
		if len(s.queue.e) == 0 {
			return Result{}, fmt.Errorf("simulate %d hosts: nothing happens any more, %d hosts are not done", cfg.Hosts, s.unfinished)
		}
		e := s.queue.pop()
		if e.at > limit {
			return Result{}, fmt.Errorf("simulate %d hosts: %d hosts are not done after %s", cfg.Hosts, s.unfinished, limit)
		}
		s.step(e)
	}
	return s.result(), nil
}

func newSim(cfg Config) *sim {
	s := &sim{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0)), upstream: int32(cfg.Hosts),
		pieces: int((cfg.Size + cfg.Piece - 1) / cfg.Piece), held: map[uint64]int32{},
		unfinished: cfg.Hosts, due: slices.Clone(cfg.Faults),
	}
	slices.SortStableFunc(s.due, func(a, b Fault) int { return int(1e6 * (a.At - b.At)) })
	q := float64(cfg.Piece) / quanta
	s.upQuantum = time.Duration(q / cfg.HostRate * 1e9)
	s.downQuantum = s.upQuantum
	s.slowLinks = s.upQuantum > time.Millisecond
	inFlight := cfg.HostRate * cfg.RTT.Seconds() / q
	s.window = min(max(2, int(inFlight)+2), maxWindow)
	for i := range cfg.Hosts {
		s.hosts = append(s.hosts, s.newHost(int32(i)))
		s.queue.push(event{at: s.hosts[i].start, kind: evStart, a: int32(i)})
	}
	if cfg.Warm {
		s.unfinished--
	}
	up := s.newHost(s.upstream)
	up.up.quantum = time.Duration(q / cfg.UpstreamRate * 1e9)
	s.hosts = append(s.hosts, up)
	return s
}

func (s *sim) step(e event) {
	switch e.kind {
	case evUplink:
		s.uplinkFree(e.a, e.at)
	case evWake:
		h := &s.hosts[e.a]
		if h.wakeAt == e.at {
			h.wakeAt = never
			s.pump(h, max(e.at, h.clock))
		}
	case evMessage:
		s.deliver(e.b, e.at)
	case evPiece:
		s.pieceArrived(e.b, e.at)
	case evRelease:
		s.release(e.b, e.at)
	case evStart:
		s.begin(e.a, e.at)
	case evSweep:
		s.sweep(e.a, e.at)
	case evTakeover:
		s.takeover(e.at)
	}
}
