package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

const (
	watchEvery = 100 * time.Millisecond
	askTime    = time.Second
	// lieEvery is how often a liar's pieces are made wrong: new ones have come meanwhile.
	lieEvery = 20 * time.Millisecond
)

// A fault is what goes wrong in a run, half-way.
type fault struct {
	what  string
	owner bool // it hits the owner, else a peer that serves others
	// ends says that the victim's own pull cannot go on.
	ends bool
	// do harms a host; what it returns undoes that after the run.
	do func(ctx context.Context, f *shapedFarm, victim int) (undo func() error, err error)
}

func ownerKilled() *fault { return &fault{what: "owner killed", owner: true, ends: true, do: kill} }
func ownerCut() *fault    { return &fault{what: "owner cut off", owner: true, ends: true, do: cutOff} }
func peerKilled() *fault  { return &fault{what: "peer killed", ends: true, do: kill} }
func peerCut() *fault     { return &fault{what: "peer cut off", ends: true, do: cutOff} }
func peerLies() *fault    { return &fault{what: "peer lying", do: lie} }

func nothing() error { return nil }

func kill(_ context.Context, f *shapedFarm, victim int) (func() error, error) {
	f.nodes[victim].Kill()
	return nothing, nil
}

func cutOff(ctx context.Context, f *shapedFarm, victim int) (func() error, error) {
	h := f.hosts[victim]
	return func() error { return h.Reconnect(context.WithoutCancel(ctx)) }, h.CutOff(ctx)
}

// lie changes bytes of every piece in the victim's files, again and again, until it is undone: what the node has checked
// and then reads to send is wrong.
func lie(ctx context.Context, f *shapedFarm, victim int) (func() error, error) {
	dir := filepath.Join(f.hosts[victim].Dir(), "p2pd", "partial")
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := spoil(dir); err != nil {
				done <- err
				return
			}
			wait(ctx, lieEvery)
		}
		done <- nil
	}()
	return func() error { stop(); return <-done }, nil
}

// spoil writes a few wrong bytes into each mebibyte of the data files below dir. The same ones each time: what is wrong
// stays wrong.
func spoil(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // committed meanwhile
		}
		if err != nil || filepath.Ext(path) != ".data" || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		info, err := file.Stat()
		for offset := int64(4321); err == nil && offset+16 < info.Size(); offset += mib {
			_, err = file.WriteAt([]byte("not these 16 by."), offset)
		}
		return err
	})
}

// A harm is a fault that was done.
type harm struct {
	victim int // -1: none
	undo   func() error
	err    error
}

// harm waits until half of the bytes are at the right host and does it. It gives the host's own pull up where that
// cannot go on.
func (f *shapedFarm) harm(ctx context.Context, p shapedPull, bytes float64, giveUp []context.CancelFunc) harm {
	if p.fault == nil {
		return harm{victim: -1, undo: nothing}
	}
	for ctx.Err() == nil {
		if victim := pickVictim(f.ask(ctx), p.fault.owner, int64(bytes)); victim >= 0 {
			undo, err := p.fault.do(ctx, f, victim)
			if p.fault.ends {
				giveUp[victim]()
			}
			return harm{victim, undo, err}
		}
		wait(ctx, watchEvery)
	}
	return harm{-1, nothing, fmt.Errorf("%s: no such host was seen half-way", p.fault.what)}
}

// ask is what each node says of itself; nil of one that does not answer.
func (f *shapedFarm) ask(ctx context.Context) []*adminapi.NodeStatus {
	all := make([]*adminapi.NodeStatus, len(f.admins))
	for i, admin := range f.admins {
		if s, err := admin.Node(ctx, askTime); err == nil {
			all[i] = &s
		}
	}
	return all
}

// pickVictim is the owner if it has half of the bytes from the upstream, or of the peers that have half of them the one
// that has served the most; -1 if there is none.
func pickVictim(nodes []*adminapi.NodeStatus, owner bool, bytes int64) int {
	victim, most := -1, int64(0)
	for i, n := range nodes {
		switch {
		case n == nil:
		case owner:
			if n.Upstream.BytesReceived >= bytes/2 && n.Upstream.BytesReceived > most {
				victim, most = i, n.Upstream.BytesReceived
			}
		case n.Upstream.BytesReceived < bytes/10 && n.Peers.BytesReceived >= bytes/2 && n.Peers.BytesSent > most:
			victim, most = i, n.Peers.BytesSent
		}
	}
	return victim
}

// after looks at what a lie has led to, while the nodes still run.
func (f *shapedFarm) after(ctx context.Context, p shapedPull, h harm, pulls []hostPull, r *shapedRun) {
	if p.fault == nil || p.fault.ends || h.victim < 0 {
		return
	}
	for i, n := range f.ask(ctx) {
		if n != nil && i != h.victim {
			r.noticed += float64(n.Peers.Mismatches)
		}
	}
	if err := pulls[h.victim].err; err != nil {
		r.notes = append(r.notes, "the liar's own client, who reads the same spoilt files, does not count: its pull failed")
	}
}

// measureTogether compares pulls that start at once with the bound.
func measureTogether(ctx context.Context, b *bench, s *sheet) error {
	return b.onShaped(ctx, s, 0, true, nil, func(name string, upstream int64) func(shapedRun) error {
		target := atMostAim(1.08, 1.03)
		if upstream == hostRate {
			target = atMostAim(1.20, 1.10)
		}
		last := s.line("last host ÷ bound, "+name, "", target, "")
		bytes := s.line("bytes from the upstream ÷ unique, "+name, "", nil, "")
		sent := s.line("until the upstream had sent all ÷ bound, "+name, "", nil, "")
		differs := s.line("simulated farm's last host, differs by, "+name, "", atMost(0.05), "")
		return func(r shapedRun) error {
			last(r.last())
			bytes(r.upstream)
			sent(r.sent / r.bound.together())
			simulated, err := b.likeShaped(ctx, r)
			differs(math.Abs(simulated/r.last() - 1))
			return err
		}
	})
}

// likeShaped simulates a shaped run of one blob and returns the last host's time ÷ bound.
func (b *bench) likeShaped(ctx context.Context, r shapedRun) (float64, error) {
	rate := func(bytes float64) string { return fmt.Sprintf("%.3fmbit", bytes*8/1e6) }
	simulated, err := b.simulate(ctx, "-hosts", fmt.Sprint(r.bound.hosts), "-size", fmt.Sprintf("%.0fB", r.bound.bytes),
		"-host-rate", rate(r.bound.link), "-upstream-rate", rate(r.bound.upstream), "-rtt", "100us", "-loss", "0")
	if err != nil {
		return 0, err
	}
	return simulated.Max, nil
}

// rollingApart is the time between the starts of two hosts.
const rollingApart = 2 * time.Second

// measureRolling compares pulls that start one after the other with each host's own bound.
func measureRolling(ctx context.Context, b *bench, s *sheet) error {
	return b.onShaped(ctx, s, rollingApart, false, nil, func(name string, _ int64) func(shapedRun) error {
		mean := s.line("mean ÷ bound, "+name, "", atMost(1.10), "")
		bytes := s.line("bytes from the upstream ÷ unique, "+name, "", nil, "")
		return func(r shapedRun) error {
			mean(r.mean())
			bytes(r.upstream)
			return nil
		}
	})
}

// measureFault compares pulls during which something goes wrong with the bound as if nothing had.
func measureFault(which func() *fault) func(context.Context, *bench, *sheet) error {
	return func(ctx context.Context, b *bench, s *sheet) error {
		what := which()
		return b.onShaped(ctx, s, 0, false, what, func(name string, _ int64) func(shapedRun) error {
			target := 1.3
			if what.owner {
				target = 2.0
			}
			last := s.line("last host ÷ bound, "+name, "", atMost(target), "")
			bytes := s.line("bytes from the upstream ÷ unique, "+name, "", atMost(1.05), "")
			noticed := func(float64) {}
			if !what.ends {
				noticed = s.line("wrong pieces that others noticed, "+name, "", above(0), "")
			}
			return func(r shapedRun) error {
				last(r.last())
				bytes(r.upstream)
				noticed(r.noticed)
				return nil
			}
		})
	}
}

// onShaped does the runs of a figure: with the upstream half as fast as the hosts' links, and as fast; with one large
// layer, and where many is set with ten layers, too. lines declares the lines of one of these.
func (b *bench) onShaped(ctx context.Context, s *sheet, apart time.Duration, many bool, what *fault,
	lines func(name string, upstream int64) func(shapedRun) error,
) (err error) {
	one, err := b.image(160, b.size(256*mib))
	if err != nil {
		return err
	}
	ten, err := b.image(161, layers(10, b.size(25*mib))...)
	if err != nil {
		return err
	}
	f, err := b.shapedFarm(ctx, one, ten)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var busy error
	for _, upstream := range []int64{hostRate / 2, hostRate} {
		pulls := []shapedPull{{image: one, tag: "1"}}
		names := []string{"256 MiB layer"}
		if many {
			pulls, names = append(pulls, shapedPull{image: ten, tag: "2"}), append(names, "10 layers of 25 MiB")
		}
		var add []func(shapedRun) error
		for _, name := range names {
			add = append(add, lines(fmt.Sprintf("%s, upstream %d Mbit/s", name, upstream/1e6), upstream))
		}
		for range b.runs {
			for i, p := range slices.Clone(pulls) {
				p.upstream, p.apart, p.fault = upstream, apart, what
				r, err := f.counted(ctx, s, p)
				if errors.Is(err, errBusyMachine) {
					busy = errors.Join(busy, fmt.Errorf("%s: %w", names[i], err))
					continue // the others may still count
				}
				if err != nil {
					return err
				}
				if err := add[i](r); err != nil {
					return err
				}
			}
		}
	}
	return busy
}
