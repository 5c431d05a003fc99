package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/netfarm"
)

const (
	shapedHosts = 8
	// hostRate is that of every host's link, each way, in bits a second.
	hostRate = 200e6
	// minIdle is how much of the machine must have been idle for a run to count.
	minIdle = 0.25
	// repeats is how often a run that does not count is done again.
	repeats = 3
)

// A shapedFarm is hosts with shaped links, and a stand-in behind one of its own.
type shapedFarm struct {
	*netfarm.Farm
	bench   *bench
	hubHost *netfarm.Host
	hub     *hub.Hub
	hosts   []*netfarm.Host
	nodes   []*netfarm.Node
	admins  []*adminapi.Client
	env     []string // of the nodes
}

// shapedFarm makes hosts without nodes, and a stand-in that has the images under the tags 1, 2 and so on.
func (b *bench) shapedFarm(ctx context.Context, have ...*images.Image) (_ *shapedFarm, err error) {
	// Not below the bench's folder: the path of a unix socket has to be short.
	net, err := netfarm.New(ctx, netfarm.Config{Dir: b.options.dir, Keep: b.keep})
	if err != nil {
		return nil, err
	}
	// Without trust, as all these figures were ever taken; what trust costs has a figure of its own.
	f := &shapedFarm{Farm: net, bench: b, env: []string{withoutTrust}}
	defer func() {
		if err != nil {
			err = errors.Join(err, net.Close())
		}
	}()
	if f.hubHost, err = net.AddHost(ctx, "hub", netfarm.Link{Rate: hostRate}); err != nil {
		return nil, err
	}
	names := netfarm.DockerHub()
	if f.hub, err = f.hubHost.StartHub(ctx, hub.Config{TokenTTL: time.Hour}, names); err != nil {
		return nil, err
	}
	for i, image := range have {
		if err := image.AddTo(f.hub, repo, fmt.Sprint(i+1)); err != nil {
			return nil, err
		}
	}
	for i := range shapedHosts {
		if err := f.addHost(ctx, fmt.Sprintf("h%d", i+1), names.At(f.hubHost)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *shapedFarm) addHost(ctx context.Context, name string, resolve map[string]netip.Addr) error {
	h, err := f.AddHost(ctx, name, netfarm.Link{Rate: hostRate})
	if err != nil {
		return err
	}
	admin, err := adminapi.NewClient("unix://" + filepath.Join(h.Dir(), "p2pd.sock"))
	if err != nil {
		return err
	}
	f.hosts, f.admins = append(f.hosts, h), append(f.admins, admin)
	return h.Resolve(resolve)
}

// start starts a node without data on every host and waits until they are one farm.
func (f *shapedFarm) start(ctx context.Context) error {
	f.nodes = nil
	for _, h := range f.hosts {
		// The least that is logged is as in a real farm: a line for every piece would cost time.
		config := strings.Replace(h.NodeConfig(f.hosts[:3]...), "level: debug", "level: info", 1) + "cache: {max_size: 60%, min_free: 1%}\n"
		n, err := h.StartNode(ctx, f.bench.p2pd, config, f.env...)
		if err != nil {
			return err
		}
		f.nodes = append(f.nodes, n)
	}
	return netfarm.WaitFarm(ctx, f.nodes...)
}

// clear ends the nodes and removes their data.
func (f *shapedFarm) clear() error {
	defer f.FoundAnew()
	var errs []error
	for _, n := range f.nodes {
		n.Kill()
	}
	for _, h := range f.hosts {
		errs = append(errs, os.RemoveAll(filepath.Join(h.Dir(), "p2pd")))
	}
	return errors.Join(errs...)
}

// A shapedPull says what the hosts do in a run.
type shapedPull struct {
	image    *images.Image
	tag      string
	upstream int64         // bits a second
	apart    time.Duration // between the starts of two hosts
	fault    *fault        // nil: none
}

// A shapedRun is what came of it.
type shapedRun struct {
	bound    pullBound
	took     []float64 // seconds of each host that counts, from its own start
	starts   []float64 // of these hosts
	upstream float64   // bytes that the stand-in wrote ÷ unique
	idle     float64   // share of the machine
	sent     float64   // seconds until the stand-in had written as much as the image has; 0: it has not
	noticed  float64   // wrong pieces that peers have noticed
	notes    []string
}

// last is when the last host was done ÷ the bound.
func (r shapedRun) last() float64 {
	last := 0.0
	for i, took := range r.took {
		last = max(last, r.starts[i]+took)
	}
	return last / r.bound.together()
}

// mean is that of all hosts' times, each ÷ its own bound.
func (r shapedRun) mean() float64 {
	var ratios []float64
	for i, took := range r.took {
		ratios = append(ratios, took/r.bound.after(r.starts[i]))
	}
	return mean(ratios)
}

// errBusyMachine says that no run of a pull counts.
var errBusyMachine = errors.New("the machine was less idle than a run needs to count")

// counted does runs until one counts, a bounded number of times.
func (f *shapedFarm) counted(ctx context.Context, s *sheet, p shapedPull) (shapedRun, error) {
	for i := 0; ; i++ {
		r, err := f.run(ctx, p)
		if err != nil {
			return r, err
		}
		_, _ = fmt.Fprintf(f.bench.log, "  B %.1f Mbit/s, U %.1f Mbit/s, bound %.2f s, last ÷ bound %.3f, mean ÷ own bound %.3f, upstream ÷ unique %.4f, sent after %.2f s, idle %.0f%% %s\n",
			r.bound.link*8/1e6, r.bound.upstream*8/1e6, r.bound.together(), r.last(), r.mean(), r.upstream, r.sent, 100*r.idle, strings.Join(r.notes, "; "))
		for _, text := range r.notes {
			s.note("%s", text)
		}
		if r.idle >= minIdle || f.bench.quick {
			return r, nil
		}
		if i == repeats {
			return r, fmt.Errorf("%w: %.0f%% idle in the last of %d runs, %.3f times the bound", errBusyMachine, 100*r.idle, i+1, r.last())
		}
	}
}

func (f *shapedFarm) run(ctx context.Context, p shapedPull) (r shapedRun, err error) {
	if err := f.hubHost.Shape(ctx, netfarm.Link{Rate: p.upstream}); err != nil {
		return r, err
	}
	r.bound = pullBound{bytes: float64(p.image.UniqueBytes()), hosts: shapedHosts}
	if r.bound.upstream, err = goodput(ctx, f.hubHost, f.hosts[0]); err != nil {
		return r, err
	}
	if r.bound.link, err = goodput(ctx, f.hosts[1], f.hosts[2]); err != nil {
		return r, err
	}
	if err := f.bench.memory.hold(ctx); err != nil {
		return r, err
	}
	defer f.bench.memory.rest()
	if err := f.start(ctx); err != nil {
		return r, errors.Join(err, f.clear())
	}
	defer func() { err = errors.Join(err, f.clear()) }()
	wait(ctx, announceTime)
	f.hub.Reset()
	idle := idleShare()
	err = f.pull(ctx, p, &r)
	r.idle = idle()
	r.upstream = float64(f.hub.Stats().SocketBytes) / r.bound.bytes
	return r, err
}

// A hostPull is how a host's pull went.
type hostPull struct {
	start, took time.Duration
	err         error
}

// pull has all hosts pull, and fills in their times. A host that a fault has hit does not count.
func (f *shapedFarm) pull(ctx context.Context, p shapedPull, r *shapedRun) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(20*r.bound.together())*time.Second+time.Minute)
	defer cancel()
	begin := time.Now()
	pulls := make([]hostPull, len(f.hosts))
	giveUp := make([]context.CancelFunc, len(f.hosts))
	var clients sync.WaitGroup
	for i, h := range f.hosts {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		giveUp[i] = cancel
		clients.Go(func() {
			wait(ctx, time.Duration(i)*p.apart)
			pulls[i].start = time.Since(begin)
			c := &client{base: "http://127.0.0.1:5000", http: h.Client(), check: true}
			err := c.image(ctx, repo, p.tag, i%2 == 0)
			pulls[i].took, pulls[i].err = time.Since(begin)-pulls[i].start, err
		})
	}
	harmed := make(chan harm, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan float64, 1)
	go func() { harmed <- f.harm(watching, p, r.bound.bytes, giveUp) }()
	go func() { sent <- f.untilSent(watching, int64(r.bound.bytes)) }()
	clients.Wait()
	stop()
	h := <-harmed
	r.sent = <-sent
	err := f.sum(pulls, h.victim, r)
	f.after(ctx, p, h, pulls, r)
	return errors.Join(h.err, err, h.undo())
}

// untilSent waits until the stand-in has written so many bytes and returns the seconds; 0 if ctx ends before.
func (f *shapedFarm) untilSent(ctx context.Context, bytes int64) float64 {
	start := time.Now()
	for f.hub.Stats().SocketBytes < bytes {
		if wait(ctx, watchEvery/2); ctx.Err() != nil {
			return 0
		}
	}
	return time.Since(start).Seconds()
}

// sum takes over the times of the hosts that count.
func (f *shapedFarm) sum(pulls []hostPull, victim int, r *shapedRun) error {
	var errs []error
	for i, pull := range pulls {
		if i == victim {
			continue
		}
		if pull.err != nil {
			errs = append(errs, fmt.Errorf("the pull of host %s failed: %w", f.hosts[i].Name(), pull.err))
		}
		r.took = append(r.took, pull.took.Seconds())
		r.starts = append(r.starts, pull.start.Seconds())
	}
	return errors.Join(errs...)
}
