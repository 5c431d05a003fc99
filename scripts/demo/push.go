package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/oci"
)

// A story is what -push shows: an image is pushed to one host, all pull it, that host is lost, a new one pulls it all the
// same, and the tag moves for everybody.
type story struct {
	*demo
	farm *farm
	dir  string
	made *images.Image
	r    *report
}

// pushAndPull reports how what was pushed to one host is there for all.
func (d *demo) pushAndPull(ctx context.Context, f *farm, dir string, made *images.Image) (*report, error) {
	s := &story{demo: d, farm: f, dir: dir, made: made, r: newReport(d.options)}
	s.r.Push, s.r.UniqueBytes = &pushReport{Host: f.hosts[0].name}, made.UniqueBytes()
	for _, chapter := range []func(context.Context) error{s.elect, s.push, s.pull, s.lose, s.move, s.end} {
		if err := chapter(ctx); err != nil {
			return s.r, s.r.fail(errors.Join(err, f.gone(), ctx.Err()))
		}
	}
	return s.r, s.r.fail(nil)
}

// elect waits until there is a catalog that survives the loss of its leader.
func (s *story) elect(ctx context.Context) (err error) {
	c := &s.r.Push.Catalog
	if *c, err = s.farm.led(ctx, minNodes); err != nil {
		return err
	}
	s.say("The farm's catalog has a leader, %s, one of %d voters (%.1f s).", c.Leader, c.Voters, c.Seconds)
	return nil
}

// push pushes to the first host.
func (s *story) push(ctx context.Context) error {
	p := s.r.Push
	s.say("Pushing %s to %s …\n", s.image, p.Host)
	start := time.Now()
	if err := s.pushTo(ctx, s.farm.hosts[0], s.made); err != nil {
		return err
	}
	p.Seconds, p.Bytes = time.Since(start).Seconds(), s.made.UniqueBytes()
	p.BytesPerSecond = float64(p.Bytes) / p.Seconds
	p.Blobs = len(s.made.Blobs()) + len(s.made.Manifests())
	if err := p.keep(ctx, s.farm.hosts); err != nil {
		return err
	}
	if err := p.enough(); err != nil { // the answer has promised it, so nothing is waited for
		return err
	}
	// What nodes have compared while the push was on is made up for soon.
	err := s.farm.await(ctx, "all nodes to see all copies", func(ctx context.Context) error {
		if err := p.keep(ctx, s.farm.hosts); err != nil {
			return err
		}
		return errors.Join(p.enough(), p.below())
	})
	p.print(s.out)
	return err
}

func (s *story) pushTo(ctx context.Context, h *host, made *images.Image) error {
	err := images.Push(ctx, made, "http://"+h.registry, s.image.repository, s.image.reference, images.Auth{})
	if err != nil {
		return fmt.Errorf("push to host %s: %w", h.name, err)
	}
	return nil
}

// pull has all hosts pull at once.
func (s *story) pull(ctx context.Context) error {
	s.say("All of them pull %s at once:\n", s.image)
	link := &link{farm: s.farm}
	first := pull(ctx, s.farm.hosts, s.image, link, s.out)
	s.r.pulled(first)
	if first.err != nil {
		return first.err
	}
	if err := s.r.account(ctx, link, first); err != nil {
		return err
	}
	s.r.print(s.out)
	return whole(s.r.Hosts, s.made.UniqueBytes())
}

// lose kills the node that was pushed to, and has one that was never there pull.
func (s *story) lose(ctx context.Context) (err error) {
	l := &lostReport{Host: s.farm.hosts[0].name}
	s.r.Push.Lost = l
	if err := s.farm.lose(s.farm.hosts[0]); err != nil {
		return err
	}
	if l.Catalog, err = s.farm.led(ctx, minNodes-1); err != nil {
		return err
	}
	s.say("Killed the node of %s, which was pushed to. The catalog has a leader, %s (%.1f s).", l.Host, l.Catalog.Leader, l.Catalog.Seconds)
	start := time.Now()
	h, err := s.farm.add(ctx)
	if err != nil {
		return err
	}
	if err := s.welcome(ctx, h); err != nil {
		return err
	}
	s.say("%s has joined, with nothing on its disk (%.1f s). It pulls:\n", h.name, time.Since(start).Seconds())
	p := pull(ctx, []*host{h}, s.image, &link{farm: s.farm}, s.out)
	pulled := p.report()
	l.By = &pulled[0]
	if p.err != nil {
		return p.err
	}
	if err := p.account(ctx, pulled); err != nil {
		return err
	}
	printHosts(s.out, pulled, true)
	s.say("")
	return whole(pulled, s.made.UniqueBytes())
}

// welcome waits until a new node knows the others and the catalog. That all have one ring again takes longer, as they have
// just lost one, and pulls do not wait for it.
func (s *story) welcome(ctx context.Context, h *host) error {
	err := s.farm.await(ctx, "the new node to find the others", func(ctx context.Context) error {
		_, err := h.placed(ctx)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.farm.led(ctx, minNodes-1)
	return err
}

// move gives the tag to another image, of the same layers, and asks all hosts for it.
func (s *story) move(ctx context.Context) error {
	other, err := images.Assemble(s.dir, images.Spec{Docker: true, Cmd: []string{"/bin/true"}}, s.made.Layers)
	if err != nil {
		return fmt.Errorf("make another image: %w", err)
	}
	m := &movedReport{Host: s.farm.hosts[0].name, Digest: other.Digest.String()}
	s.r.Push.Moved = m
	start := time.Now()
	if err := s.pushTo(ctx, s.farm.hosts[0], other); err != nil {
		return err
	}
	m.Seconds = time.Since(start).Seconds()
	start = time.Now()
	said, err := s.named(ctx)
	m.AskSeconds = time.Since(start).Seconds()
	for _, d := range said {
		if d.String() == m.Digest {
			m.Hosts++
		}
	}
	s.say("Moved           %s to another manifest at %s in %.2f s", s.image, m.Host, m.Seconds)
	s.say("                %d of %d hosts, asked at once, named the new one within %.3f s", m.Hosts, len(s.farm.hosts), m.AskSeconds)
	if err == nil && m.Hosts < len(s.farm.hosts) {
		err = errors.New("a host has named the old manifest after the tag was moved")
	}
	return err
}

// named asks all hosts at once what the image's tag names.
func (s *story) named(ctx context.Context) ([]oci.Digest, error) {
	out := make([]oci.Digest, len(s.farm.hosts))
	group, ctx := errgroup.WithContext(ctx)
	for i, h := range s.farm.hosts {
		group.Go(func() (err error) {
			e := newEngine(h.registry, s.image)
			defer e.http.CloseIdleConnections()
			if out[i], err = e.head(ctx); err != nil {
				err = fmt.Errorf("host %s: %w", h.name, err)
			}
			return err
		})
	}
	err := group.Wait()
	return out, err
}

// end makes sure that nobody has asked an upstream.
func (s *story) end(ctx context.Context) error {
	s.r.UpstreamBytes = max(s.r.UpstreamBytes, (&link{farm: s.farm}).crossed(ctx))
	s.say("Upstream        %s from first to last", size(s.r.UpstreamBytes))
	if s.r.UpstreamBytes > 0 {
		return fmt.Errorf("%s came from an upstream; want nothing", size(s.r.UpstreamBytes))
	}
	return nil
}
