package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A served is what a server did: how fast, and what it cost.
type served struct {
	speed float64 // GB/s
	cost  float64 // CPU-s per GiB
}

// serveLoad has so many clients GET a URL so many times each.
func serveLoad(ctx context.Context, url string, pid, clients, times int) (served, error) {
	before, err := cpuOf(pid)
	if err != nil {
		return served{}, err
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	var bytes atomic.Int64
	for range clients {
		group.Go(func() error {
			c := newClient("")
			defer c.close()
			for range times {
				t, err := fetch(ctx, c.http, url)
				if err != nil {
					return err
				}
				bytes.Add(t.bytes)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return served{}, err
	}
	took := time.Since(start)
	after, err := cpuOf(pid)
	if err != nil {
		return served{}, err
	}
	return served{perSecond(bytes.Load(), took), (after - before).Seconds() / gibs(bytes.Load())}, nil
}

// fetch reads a URL and throws the bytes away.
func fetch(ctx context.Context, c *http.Client, url string) (transferred, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return transferred{}, err
	}
	start := time.Now()
	r, err := c.Do(q)
	if err != nil {
		return transferred{}, err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return transferred{}, fmt.Errorf("GET %s: %s", url, r.Status)
	}
	return drain(r.Body, start, nil)
}

// measureServeDisk compares a node that has a blob with a plain file server, in turn.
func measureServeDisk(ctx context.Context, b *bench, s *sheet) (err error) {
	image, err := b.image(100, b.size(gib))
	if err != nil {
		return err
	}
	blob := image.Layers[0]
	h, err := b.hub(0, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, err := b.farm(ctx, 1, h.URL(), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	plain, err := startPlain(ctx, filepath.Dir(blob.Path))
	if err != nil {
		return err
	}
	defer plain.close()
	node := f.Nodes[0]
	fromNode := node.Registry + "/v2/" + repo + "/blobs/" + blob.Digest.String()
	fromPlain := plain.url + "/blob/" + blob.Digest.Encoded()
	// The first GET fills the store, the second is the one that is checked.
	c := newClient("")
	defer c.close()
	for _, url := range []string{fromNode, fromNode, fromPlain} {
		if _, err := fetch(ctx, c.http, url); err != nil {
			return err
		}
		if err := stored(ctx, node, blob.Size); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name           string
		clients, times int
	}{{"1 client", 1, 4}, {"16 clients", 16, 1}} {
		speed := s.line("speed ÷ plain server's, "+part.name, "", atLeast(0.95), "")
		cost := s.line("processor time ÷ plain server's, "+part.name, "", atMost(1.1), "")
		nodeSpeed := s.line("node, "+part.name, "GB/s", nil, "")
		plainSpeed := s.line("plain server, "+part.name, "GB/s", nil, "")
		nodeCost := s.line("node, "+part.name, "CPU-s/GiB", nil, "distribution v3 0.54 to 0.60, zot 0.45 to 0.61")
		plainCost := s.line("plain server, "+part.name, "CPU-s/GiB", nil, "0.25 to 0.37")
		wait := b.profiled(ctx, fmt.Sprintf("serve-disk-%d", part.clients), node)
		for range b.pairs() {
			n, err := serveLoad(ctx, fromNode, node.PID(), part.clients, part.times)
			if err != nil {
				return err
			}
			p, err := serveLoad(ctx, fromPlain, plain.pid(), part.clients, part.times)
			if err != nil {
				return err
			}
			speed(n.speed / p.speed)
			cost(n.cost / p.cost)
			nodeSpeed(n.speed)
			plainSpeed(p.speed)
			nodeCost(n.cost)
			plainCost(p.cost)
		}
		wait()
	}
	return nil
}
