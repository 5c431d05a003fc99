package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	idleNodes = 50
	// idleSettle lets go of what the start took: announcements, and memory that the runtime gives back.
	idleSettle = 20 * time.Second
	idleTime   = 20 * time.Second
)

// measureIdle watches the nodes of a farm in which nothing happens. All are p2pd processes, so each has the 49 peers
// that it would have elsewhere.
func measureIdle(ctx context.Context, b *bench, s *sheet) (err error) {
	memory := s.line("RssAnon, median of 50 nodes", "MiB", below(40), "")
	largest := s.line("RssAnon, largest of 50 nodes", "MiB", nil, "")
	resident := s.line("VmRSS with the program's own pages, median", "MiB", nil, "")
	cpu := s.line("processor, mean of 50 nodes", "% of a core", below(0.5), "")
	busiest := s.line("processor, busiest of 50 nodes", "% of a core", nil, "")
	h, err := b.hub(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, idleNodes, h.URL(), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	wait(ctx, idleSettle)
	for i := range b.runs {
		defer b.profiled(ctx, "idle", f.Nodes[i])()
		used, err := idleUse(ctx, f.pids())
		if err != nil {
			return err
		}
		memory(median(used.anonymous))
		largest(slices.Max(used.anonymous))
		resident(median(used.resident))
		cpu(mean(used.cpu))
		busiest(slices.Max(used.cpu))
	}
	s.note("the peers are 49 p2pd processes on the same machine")
	return nil
}

// idleUsage is by process: MiB, and percent of a core.
type idleUsage struct{ anonymous, resident, cpu []float64 }

func idleUse(ctx context.Context, pids []int) (u idleUsage, err error) {
	before := make([]time.Duration, len(pids))
	for i, pid := range pids {
		if before[i], err = cpuOf(pid); err != nil {
			return u, err
		}
	}
	start := time.Now()
	wait(ctx, idleTime)
	for i, pid := range pids {
		after, err := cpuOf(pid)
		if err != nil {
			return u, err
		}
		u.cpu = append(u.cpu, 100*(after-before[i]).Seconds()/time.Since(start).Seconds())
		for field, to := range map[string]*[]float64{"RssAnon": &u.anonymous, "VmRSS": &u.resident} {
			n, err := memoryOf(pid, field)
			if err != nil {
				return u, err
			}
			*to = append(*to, float64(n)/mib)
		}
	}
	return u, ctx.Err()
}
