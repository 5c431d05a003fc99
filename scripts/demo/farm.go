package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// A farm is the hosts' processes.
type farm struct {
	options
	settings
	dir     string
	alone   bool    // all hosts have one address
	hosts   []*host // those that run
	started int
}

// settleTime is how long nodes may take to find each other, or to agree.
const settleTime = time.Minute

// startFarm starts a node on each of 127.0.0.1, 127.0.0.2 and so on. It is stopped by stop, also after an error.
func startFarm(ctx context.Context, o options, dir string, s settings, say io.Writer) (*farm, error) {
	f := &farm{options: o, settings: s, dir: dir}
	var lacking string
	if lacking, f.alone = lacks(o.hostsInAll()); f.alone {
		_, _ = fmt.Fprintf(say, "This machine has no %s, so all hosts get ports of their own on 127.0.0.1.\n"+
			"(macOS: sudo ifconfig lo0 alias 127.0.0.2 up, and so on, gives them addresses of their own.)\n", lacking)
	}
	for range o.nodes {
		if _, err := f.add(ctx); err != nil {
			return f, err
		}
	}
	return f, f.settle(ctx)
}

// add starts one more host. The first one founds the farm; others look for it by way of the first that runs, and join with
// a token of its.
func (f *farm) add(ctx context.Context) (*host, error) {
	f.started++
	ip := loopback(f.started)
	if f.alone {
		ip = loopback(1)
	}
	h, err := newHost(ip, filepath.Join(f.dir, fmt.Sprintf("host-%d", f.started)), f.anyPorts)
	if err != nil {
		return nil, fmt.Errorf("find ports for host %d: %w", f.started, err)
	}
	h.name = ip
	if f.alone {
		h.name = h.registry
	}
	var seeds []string
	var token string
	if len(f.hosts) > 0 {
		seeds = []string{f.hosts[0].gossip}
		err := f.await(ctx, "a token for host "+strconv.Itoa(f.started), func(ctx context.Context) (err error) {
			token, err = f.hosts[0].token(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if err := h.start(ctx, f.p2pd, h.config(seeds, token, f.settings)); err != nil {
		return nil, err
	}
	f.hosts = append(f.hosts, h)
	return h, nil
}

// lose kills a host, which is none of the farm's from then on.
func (f *farm) lose(h *host) error {
	if err := h.kill(); err != nil {
		return err
	}
	f.hosts = slices.DeleteFunc(f.hosts, func(other *host) bool { return other == h })
	return nil
}

// loopback is the address of the nth host.
func loopback(n int) string { return fmt.Sprintf("127.0.0.%d", n) }

// lacks names one of n loopback addresses that the machine does not have, if there is one: Linux has all of 127.0.0.0/8,
// others have 127.0.0.1.
func lacks(n int) (address string, lacking bool) {
	for i := range n {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback(i+1), "0"))
		if err != nil {
			return loopback(i + 1), true
		}
		_ = l.Close()
	}
	return "", false
}

// settle waits until all nodes have one ring that has all of them.
func (f *farm) settle(ctx context.Context) error {
	return f.await(ctx, "the nodes to find each other", f.unsettled)
}

// await waits until missing finds that nothing is missing any more.
func (f *farm) await(ctx context.Context, what string, missing func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		why := missing(limited)
		if why == nil {
			return nil
		}
		if err := f.gone(); err != nil {
			return err
		}
		select {
		case <-limited.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(why, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// unsettled says what is missing. Equal rings alone are not enough: nodes that join have a ring without themselves
// first, or none. But rings that are equal and in which each node owns something have all of them.
func (f *farm) unsettled(ctx context.Context) error {
	rings := map[string]bool{}
	for _, h := range f.hosts {
		s, err := h.placed(ctx)
		if err != nil {
			return err
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

// statuses asks some nodes, again until each has counted the answers that its engine has had whole already: a node
// counts an answer when its last byte has gone.
func statuses(ctx context.Context, hosts []*host, served int64) ([]adminapi.NodeStatus, error) {
	out := make([]adminapi.NodeStatus, len(hosts))
	for i, h := range hosts {
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
	for _, h := range f.hosts {
		h.stop()
	}
	for _, h := range f.hosts {
		<-h.ended
	}
}
