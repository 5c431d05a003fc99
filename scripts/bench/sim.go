package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"

	"github.com/pullonce/pullonce/cmd/p2psim/sim"
)

// simulate runs p2psim, which drives the product's own scheduler, once for each seed from 1 on.
func (b *bench) simulate(ctx context.Context, runs int, args ...string) ([]sim.Result, error) {
	args = append(args, "-runs", fmt.Sprint(runs), "-o", "json")
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.p2psim, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("p2psim %v: %w: %s", args, err, stderr.String())
	}
	var all []sim.Result
	decoder := json.NewDecoder(bytes.NewReader(out))
	for decoder.More() {
		var r sim.Result
		if err := decoder.Decode(&r); err != nil {
			return nil, fmt.Errorf("read what p2psim wrote: %w", err)
		}
		all = append(all, r)
	}
	return all, nil
}

// measureSim compares simulated farms with the bound.
func measureSim(ctx context.Context, b *bench, s *sheet) error {
	for _, hosts := range []int{8, 512, 4096} {
		mean := s.line(fmt.Sprintf("%d hosts, mean ÷ bound", hosts), "", atMost(1.10), "")
		p99 := s.line(fmt.Sprintf("%d hosts, p99 ÷ bound", hosts), "", atMost(1.13), "")
		if b.quick && hosts > 512 {
			s.note("%d hosts are left out of a quick try", hosts)
			continue
		}
		all, err := b.simulate(ctx, b.runs, "-hosts", fmt.Sprint(hosts), "-size", "1GiB", "-host-rate", "10gbit", "-upstream-rate", "10gbit",
			"-rtt", "300us", "-message-cost", "20us", "-loss", "0.001")
		if err != nil {
			return err
		}
		for _, r := range all {
			mean(r.Mean)
			p99(r.P99)
		}
	}
	s.note("simulated: 10 Gbit/s links and upstream, RTT 0.3 ms, 20 µs a message, 0.1%% of messages lost, one seed a run")
	return nil
}
