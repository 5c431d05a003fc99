package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// A farm is the hosts' processes.
type farm struct {
	hosts  []*host
	cancel context.CancelFunc
}

// settleTime is how long nodes may take to find each other.
const settleTime = 30 * time.Second

// startFarm starts a node on each of 127.0.0.1, 127.0.0.2 and so on. It is stopped by stop, also after an error.
func startFarm(ctx context.Context, o options, dir, upstream string, cacheBytes int64, say io.Writer) (*farm, error) {
	processes, cancel := context.WithCancel(context.WithoutCancel(ctx)) // stop ends them, after the last question
	f := &farm{cancel: cancel}
	addresses, alone := loopback(o.nodes)
	if alone {
		_, _ = fmt.Fprintf(say, "This machine has no %s, so all hosts get ports of their own on 127.0.0.1.\n"+
			"(macOS: sudo ifconfig lo0 alias 127.0.0.2 up, and so on, gives them addresses of their own.)\n", addresses[len(addresses)-1])
	}
	var seeds []string
	for i, ip := range addresses {
		if alone {
			ip = "127.0.0.1"
		}
		h, err := newHost(ip, filepath.Join(dir, fmt.Sprintf("host-%d", i+1)), o.anyPorts)
		if err != nil {
			return f, fmt.Errorf("find ports for host %d: %w", i+1, err)
		}
		h.name = ip
		if alone {
			h.name = h.registry
		}
		if err := h.start(processes, o.p2pd, h.config(seeds, upstream, cacheBytes)); err != nil {
			return f, err
		}
		f.hosts = append(f.hosts, h)
		if len(seeds) == 0 {
			seeds = []string{h.gossip}
		}
	}
	return f, f.settle(ctx)
}

// loopback returns n loopback addresses, and whether the machine lacks some of them: Linux has all of 127.0.0.0/8,
// others have 127.0.0.1.
func loopback(n int) (addresses []string, lacking bool) {
	for i := range n {
		ip := fmt.Sprintf("127.0.0.%d", i+1)
		addresses = append(addresses, ip)
		l, err := net.Listen("tcp", ip+":0")
		if err != nil {
			lacking = true
			continue
		}
		_ = l.Close()
	}
	return addresses, lacking
}

// settle waits until all nodes have one ring that has all of them.
func (f *farm) settle(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		why := f.unsettled(limited)
		if why == nil {
			return nil
		}
		if err := f.gone(); err != nil {
			return err
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("wait for the nodes to find each other: %w", errors.Join(why, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// unsettled says what is missing. Equal rings alone are not enough: nodes that join have a ring without themselves
// first, or none. But rings that are equal and in which each node owns something have all of them.
func (f *farm) unsettled(ctx context.Context) error {
	rings := map[string]bool{}
	for _, h := range f.hosts {
		s, err := h.status(ctx)
		if err != nil {
			return err
		}
		if s.Ring.OwnedPartitions == 0 {
			return fmt.Errorf("the node of %s, which is %s, has no place in its ring", h.name, s.State)
		}
		rings[s.Ring.Hash] = true
	}
	if len(rings) > 1 {
		return fmt.Errorf("%d hosts have %d different rings", len(f.hosts), len(rings))
	}
	return nil
}

// gone says which process has ended before its time; nil while all run.
func (f *farm) gone() error {
	var errs []error
	for _, h := range f.hosts {
		errs = append(errs, h.gone())
	}
	return errors.Join(errs...)
}

// statuses asks all nodes, again until each has counted the answers that its engine has had whole already: a node
// counts an answer when its last byte has gone.
func (f *farm) statuses(ctx context.Context, served int64) ([]adminapi.NodeStatus, error) {
	out := make([]adminapi.NodeStatus, len(f.hosts))
	for i, h := range f.hosts {
		for deadline := time.Now().Add(2 * time.Second); ; {
			s, err := h.status(ctx)
			if err != nil {
				return nil, err
			}
			out[i] = s
			if s.Served.Bytes() >= served || time.Now().After(deadline) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return out, nil
}

// stop ends all processes and waits for them.
func (f *farm) stop() {
	f.cancel()
	for _, h := range f.hosts {
		<-h.ended
	}
}
