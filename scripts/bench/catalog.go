package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	catalogPuts  = 1000 // at each node
	catalogDelay = 5 * time.Millisecond
	catalogSyncs = 1000
	// catalogRate and catalogLoad are the tag GETs of all nodes together.
	catalogRate = 1000
	catalogLoad = 20 * time.Second
	// catalogRepositories have ten tags each.
	catalogRepositories = 10_000
	// snapshotTime is more than a voter waits until it looks whether to make a snapshot.
	snapshotTime = 70 * time.Second
)

// measureCatalogPut compares how long it takes to put a tag with one sync of the same disk, in turn: at the leader and
// at the other voters, which hand it on.
func measureCatalogPut(ctx context.Context, b *bench, s *sheet) error {
	for _, kind := range []struct {
		text  string
		delay time.Duration
		goal  float64
	}{{"", 0, 12}, {", 5 ms added to each sync", catalogDelay, 3}} {
		ratio := s.line("p50 of a tag PUT at any voter ÷ p50 of an fdatasync"+kind.text, "", atMost(kind.goal), "")
		leader := s.line("p50 at the leader ÷ p50 of an fdatasync"+kind.text, "", nil, "")
		put := s.line("p50 of a tag PUT"+kind.text, "ms", nil, "")
		slow := s.line("p99 of a tag PUT"+kind.text, "ms", nil, "")
		plain := s.line("p50 of an fdatasync"+kind.text, "ms", nil, "")
		for range b.runs {
			t, err := b.catalogPut(ctx, kind.delay)
			if err != nil {
				return err
			}
			ratio(float64(percentile(t.any, 0.5)) / float64(percentile(t.syncs, 0.5)))
			leader(float64(percentile(t.leader, 0.5)) / float64(percentile(t.syncs, 0.5)))
			put(millis(percentile(t.any, 0.5)))
			slow(millis(percentile(t.any, 0.99)))
			plain(millis(percentile(t.syncs, 0.5)))
		}
	}
	s.note("3 processes on one machine and one disk; the tags are put one after the other")
	return nil
}

// putTimes are sorted.
type putTimes struct{ any, leader, syncs []time.Duration }

func (b *bench) catalogPut(ctx context.Context, delay time.Duration) (t putTimes, err error) {
	dir, err := b.folder("catalog")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, b.drop(dir)) }()
	all, err := startVoters(ctx, dir, 3, delay)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, all.end()) }()
	leads, _, err := all.leader()
	if err != nil {
		return t, err
	}
	puts := int(b.size(catalogPuts))
	for range 4 { // in turn, so that a slow moment of the disk meets both
		syncs, err := syncTimes(filepath.Join(dir, "sync"), int(b.size(catalogSyncs)/4), delay)
		if err != nil {
			return t, err
		}
		t.syncs = append(t.syncs, syncs...)
		for _, v := range all {
			r, err := v.ask(voterOrder{Do: "put", Count: puts / 4})
			if err != nil {
				return t, err
			}
			t.any = append(t.any, r.Times...)
			if v == leads {
				t.leader = append(t.leader, r.Times...)
			}
		}
	}
	for _, times := range [][]time.Duration{t.any, t.leader, t.syncs} {
		slices.Sort(times)
	}
	return t, nil
}

// syncTimes writes a block of a file that has its size already, and syncs it, again and again.
func syncTimes(path string, n int, delay time.Duration) (times []time.Duration, err error) {
	const block, size = 4096, 4 * mib
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(make([]byte, size)); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	data := make([]byte, block)
	for i := range n {
		data[0]++
		began := time.Now()
		if _, err := file.WriteAt(data, int64(i*block%size)); err != nil {
			return nil, err
		}
		time.Sleep(delay)
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// measureCatalogGet reads a tag at all nodes of a farm at a steady rate: three voters, and one that keeps no replica.
func measureCatalogGet(ctx context.Context, b *bench, s *sheet) error {
	slow := s.line("p99 of a linearizable tag GET, 1,000 a second at 4 nodes", "ms", below(10), "")
	leader := s.line("p99 at the leader", "ms", nil, "")
	other := s.line("p99 at the others", "ms", nil, "")
	middle := s.line("p50 at any node", "ms", nil, "")
	for range b.runs {
		nodes, own, err := b.catalogGet(ctx)
		if err != nil {
			return err
		}
		others := slices.Concat(nodes...)
		all := slices.Concat(others, own)
		slices.Sort(others)
		slices.Sort(all)
		slices.Sort(own)
		slow(millis(percentile(all, 0.99)))
		leader(millis(percentile(own, 0.99)))
		other(millis(percentile(others, 0.99)))
		middle(millis(percentile(all, 0.5)))
	}
	s.note("4 processes on one machine; a GET is counted from when it was due")
	return nil
}

func (b *bench) catalogGet(ctx context.Context) (others [][]time.Duration, own []time.Duration, err error) {
	dir, err := b.folder("catalog")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.drop(dir)) }()
	all, err := startVoters(ctx, dir, 4, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, all.end()) }()
	if _, err := all[0].ask(voterOrder{Do: "put", Count: 100}); err != nil {
		return nil, nil, err
	}
	leads, rest, err := all.leader()
	if err != nil {
		return nil, nil, err
	}
	lasting := catalogLoad
	if b.quick {
		lasting /= quickDivisor
	}
	order := voterOrder{Do: "get", Rate: catalogRate / len(all), Time: lasting}
	others = make([][]time.Duration, len(rest))
	var group errgroup.Group
	for i, v := range rest {
		group.Go(func() error {
			r, err := v.ask(order)
			others[i] = r.Times
			return err
		})
	}
	r, err := leads.ask(order)
	return others, r.Times, errors.Join(err, group.Wait())
}

// measureCatalogSize fills a catalog and looks at the process of its voter.
func measureCatalogSize(ctx context.Context, b *bench, s *sheet) error {
	filled := s.line("resident while 320,000 commands were applied, at most", "MiB", nil, "")
	resident := s.line("resident with 100,000 tags in 10,000 repositories, after a snapshot", "MiB", below(300), "")
	restarted := s.line("resident after a restart", "MiB", below(300), "")
	most := s.line("resident during the restart, at most", "MiB", nil, "")
	anonymous := s.line("RssAnon after a restart, without pages of the log's file", "MiB", nil, "")
	serves := s.line("from the start of the process until it serves a tag", "s", below(5), "")
	rate := s.line("commands a second, 64 at once", "", nil, "")
	slowest := s.line("slowest of those commands", "ms", nil, "")
	for range b.runs {
		z, err := b.catalogSize(ctx)
		if err != nil {
			return err
		}
		filled(float64(z.peak) / mib)
		resident(float64(z.filled) / mib)
		restarted(float64(z.restarted) / mib)
		most(float64(z.most) / mib)
		anonymous(float64(z.anonymous) / mib)
		serves(z.serves.Seconds())
		rate(z.rate)
		slowest(millis(z.slowest))
	}
	s.note("a catalog of one voter, so that it has to elect itself after the restart; resident is VmRSS")
	return nil
}

type catalogSizes struct {
	peak, filled, restarted, most, anonymous int64
	serves, slowest                          time.Duration
	rate                                     float64
}

func (b *bench) catalogSize(ctx context.Context) (z catalogSizes, err error) {
	dir, err := b.folder("catalog")
	if err != nil {
		return z, err
	}
	defer func() { err = errors.Join(err, b.drop(dir)) }()
	all, err := startVoters(ctx, dir, 1, 0)
	if err != nil {
		return z, err
	}
	defer func() { all.kill() }()
	repositories := int(b.size(catalogRepositories))
	began := time.Now()
	filled, err := all[0].ask(voterOrder{Do: "fill", Count: repositories})
	if err != nil {
		return z, err
	}
	z.slowest = filled.Times[0]
	z.rate = float64(repositories*(2+3*tagsPerRepository)) / time.Since(began).Seconds()
	if _, err := all[0].ask(voterOrder{Do: "put", Count: 1}); err != nil {
		return z, err
	}
	if z.peak, err = memoryOf(all[0].pid(), "VmHWM"); err != nil {
		return z, err
	}
	if err := newSnapshot(ctx, filepath.Join(dir, "n0", "snapshots", "snapshots")); err != nil {
		return z, err
	}
	if z.filled, err = memoryOf(all[0].pid(), "VmRSS"); err != nil {
		return z, err
	}
	all.kill()
	began = time.Now()
	if all, err = startVoters(ctx, dir, 1, 0); err != nil {
		return z, err
	}
	if _, err := all[0].ask(voterOrder{Do: "get", Rate: 1, Time: time.Second}); err != nil {
		return z, err
	}
	z.serves = time.Since(began)
	wait(ctx, 5*time.Second)
	for field, to := range map[string]*int64{"VmRSS": &z.restarted, "VmHWM": &z.most, "RssAnon": &z.anonymous} {
		if *to, err = memoryOf(all[0].pid(), field); err != nil {
			return z, err
		}
	}
	return z, nil
}

// newSnapshot waits until there is a snapshot that was begun after the call, or there is nothing to put into one.
func newSnapshot(ctx context.Context, dir string) error {
	began := time.Now()
	for time.Since(began) < snapshotTime && ctx.Err() == nil {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && filepath.Ext(e.Name()) != ".tmp" && info.ModTime().After(began) {
				return nil
			}
		}
		wait(ctx, time.Second)
	}
	return ctx.Err()
}
