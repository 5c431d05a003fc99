package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// withoutTrust is the environment of the nodes of a farm without trust.
const withoutTrust = "P2PD_TRUST_MODE=none"

// measureShapedTrust pulls in turn through a farm with trust and one without, on links of which the hosts' are the
// bottleneck.
func measureShapedTrust(ctx context.Context, b *bench, s *sheet) (err error) {
	with := s.line("last host ÷ bound, with trust", "", nil, "")
	without := s.line("last host ÷ bound, without", "", nil, "")
	ratio := s.line("with ÷ without, of the pair", "", atMost(1.03), "")
	image, err := b.image(700, b.size(200*mib))
	if err != nil {
		return err
	}
	f, err := b.shapedFarm(ctx, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for pair := range b.pairs() {
		var last [2]float64
		for turn := range 2 {
			trusted := (pair + turn) % 2 // the one that goes first changes
			f.env = []string{withoutTrust}
			if trusted == 1 {
				f.env = nil
			}
			r, err := f.counted(ctx, s, shapedPull{image: image, tag: "1", upstream: hostRate / 2})
			if err != nil {
				return err
			}
			last[trusted] = r.last()
		}
		without(last[0])
		with(last[1])
		ratio(last[1] / last[0])
	}
	return nil
}

const joiners = 8

// measureJoin times how long a new node takes from its process's start with a token until it serves as a member of the
// farm.
func measureJoin(ctx context.Context, b *bench, s *sheet) (err error) {
	serving := s.line("until the registry answers", "s", below(2), "")
	member := s.line("until the farm's other nodes see it in the ring", "s", below(2), "")
	net, err := netfarm.New(ctx, netfarm.Config{Dir: b.options.dir, Keep: b.keep})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, net.Close()) }()
	first, err := net.AddHost(ctx, "first", netfarm.Link{})
	if err != nil {
		return err
	}
	founder, err := first.StartNode(ctx, b.p2pd, quietConfig(first))
	if err != nil {
		return err
	}
	for i := range joiners {
		h, err := net.AddHost(ctx, fmt.Sprintf("h%d", i+1), netfarm.Link{})
		if err != nil {
			return err
		}
		answered, seen, err := b.join(ctx, h, first, founder, i+2)
		if err != nil {
			return err
		}
		serving(answered.Seconds())
		member(seen.Seconds())
	}
	s.note("%d nodes join one after the other; the process's start is in the time, the making of the token is not", joiners)
	return nil
}

func quietConfig(h *netfarm.Host, seeds ...*netfarm.Host) string {
	return h.NodeConfig(seeds...) + "cache: {max_size: 60%, min_free: 1%}\n"
}

// join starts a node with a token and watches it from outside until it is one of so many members.
func (b *bench) join(ctx context.Context, h, seed *netfarm.Host, founder *netfarm.Node, members int) (answered, seen time.Duration, err error) {
	admin, err := adminapi.NewClient("unix://" + filepath.Join(seed.Dir(), "p2pd.sock"))
	if err != nil {
		return 0, 0, err
	}
	token, err := admin.CreateToken(ctx, time.Minute, 1)
	if err != nil {
		return 0, 0, err
	}
	file := filepath.Join(h.Dir(), "p2pd.yaml")
	if err := os.WriteFile(file, []byte(quietConfig(h, seed)), 0o644); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if _, err := h.Start(ctx, netfarm.Spec{
		Name: "p2pd", Args: []string{b.p2pd, "--config", file}, Env: []string{"P2PD_TRUST_TOKEN=" + token.Token},
		Ready: func(ctx context.Context) error { return pingRegistry(ctx, h.Client()) },
	}); err != nil {
		return 0, 0, err
	}
	answered = time.Since(start)
	for {
		status, err := founder.Status(ctx)
		if err != nil {
			return 0, 0, err
		}
		if status.Totals.Answered == members && status.Ring.Agree && inRing(status) == members {
			return answered, time.Since(start), nil
		}
		if wait(ctx, watchEvery/2); ctx.Err() != nil || time.Since(start) > time.Minute {
			return 0, 0, fmt.Errorf("host %s is no member after %v", h.Name(), time.Since(start))
		}
	}
}

// inRing is how many members have a part of the ring.
func inRing(status adminapi.FarmStatus) int {
	n := 0
	for _, m := range status.Members {
		if m.Node != nil && m.Node.Ring.OwnedPartitions > 0 {
			n++
		}
	}
	return n
}

func pingRegistry(ctx context.Context, c *http.Client) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:5000/v2/", nil)
	if err != nil {
		return err
	}
	r, err := c.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}
