package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
)

const (
	// armedFor is how long after its manifest the first layer starts the others.
	armedFor = time.Minute
	// letGoAfter is how long layers are fetched that no client asks for.
	letGoAfter = 3 * time.Minute
	// maxArmed bounds the manifests that are looked ahead for.
	maxArmed = 1024
	// maxGiven bounds the digests that a node remembers to have given to its engine.
	maxGiven = 65_536
	// maxAhead bounds the layers that are fetched ahead for one manifest.
	maxAhead = 128
	// maxFetching bounds the layers that are fetched ahead at once. What finds no place is fetched when it is asked for.
	maxFetching = 256
)

// prefetch looks ahead: an engine fetches three layers at a time, and the farm starts all layers of an image at the
// first. A manifest arms it, and the first whole layer that a client asks for in that repository fires it.
type prefetch struct {
	n     *Node
	armed *otter.Cache[oci.Repository, []armedManifest]
	has   *otter.Cache[oci.Digest, struct{}] // given to this host's engine before
	slots chan struct{}                      // of layers that are being fetched ahead

	mu sync.Mutex // orders changes of armed
}

type armedManifest struct {
	digest oci.Digest
	layers []oci.Descriptor
	at     time.Time
	fired  bool
}

func newPrefetch(n *Node) *prefetch {
	return &prefetch{
		n: n,
		armed: otter.Must(&otter.Options[oci.Repository, []armedManifest]{
			MaximumSize: maxArmed, ExpiryCalculator: otter.ExpiryWriting[oci.Repository, []armedManifest](letGoAfter),
		}),
		has:   otter.Must(&otter.Options[oci.Digest, struct{}]{MaximumSize: maxGiven}),
		slots: make(chan struct{}, maxFetching),
	}
}

// maxArmedHere bounds the manifests that are armed in one repository.
const maxArmedHere = 16

// arm remembers the layers of a manifest that a client has just got.
func (p *prefetch) arm(repo oci.Repository, d oci.Digest, mediaType string, raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, _ := p.armed.GetIfPresent(repo)
	now := time.Now()
	kept := make([]armedManifest, 0, len(list)+1)
	for _, a := range list {
		if a.digest == d && now.Sub(a.at) < armedFor {
			return
		}
		if a.digest != d && now.Sub(a.at) < letGoAfter {
			kept = append(kept, a)
		}
	}
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil || m.Index() {
		return
	}
	layers := m.Blobs()
	layers = slices.Clone(layers[:min(len(layers), maxAhead)]) // a manifest of the largest size names many thousands
	kept = append(kept, armedManifest{digest: d, layers: layers, at: now})
	p.armed.Set(repo, kept[max(0, len(kept)-maxArmedHere):])
}

// sizeOf is the size that a manifest claims for a blob, 0 when none does.
func (p *prefetch) sizeOf(repo oci.Repository, d oci.Digest) int64 {
	list, _ := p.armed.GetIfPresent(repo)
	for _, a := range list {
		for _, l := range a.layers {
			if l.Digest == d {
				return l.Size
			}
		}
	}
	return 0
}

// fire starts the other layers of the manifests that name d.
func (p *prefetch) fire(repo oci.Repository, d oci.Digest) {
	if !p.n.cfg.Prefetch {
		return
	}
	for _, l := range p.due(repo, d) {
		if l.Digest == d || len(l.URLs) > 0 || l.Size <= p.n.cfg.Transfer.InlineMax {
			continue // a small blob takes no longer than the question for it
		}
		if _, given := p.has.GetIfPresent(l.Digest); given {
			continue
		}
		if _, err := p.n.store.Stat(l.Digest); err == nil {
			continue
		}
		p.fetch(repo, l)
	}
}

// due are the layers to start now that d is asked for, and none the next time.
func (p *prefetch) due(repo oci.Repository, d oci.Digest) []oci.Descriptor {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, _ := p.armed.GetIfPresent(repo)
	var layers []oci.Descriptor
	for i := range list {
		a := &list[i]
		if a.fired || time.Since(a.at) > armedFor {
			continue
		}
		for _, l := range a.layers {
			if l.Digest == d {
				a.fired = true
				layers = append(layers, a.layers...)
				break
			}
		}
	}
	return layers
}

// fetch gets one layer ahead, and lets it go when no client asks for it.
func (p *prefetch) fetch(repo oci.Repository, l oci.Descriptor) {
	select {
	case <-p.n.placed:
	default:
		return // alone for a moment: what is not asked for need not be fetched then
	}
	select {
	case p.slots <- struct{}{}:
	default:
		return
	}
	h, err := p.n.engine.Get(transfer.Want{Repository: repo, Digest: l.Digest, Size: l.Size, Ahead: true})
	if err != nil {
		<-p.slots
		return
	}
	p.n.background.Go(func() {
		defer func() {
			_ = h.Close()
			<-p.slots
		}()
		ctx, cancel := context.WithTimeout(p.n.life, letGoAfter)
		defer cancel()
		if ok, err := h.Vouched(ctx); err == nil && ok && h.Repository() == repo {
			p.n.links.note(repo, l.Digest, l.Size)
		}
		if err := h.Done(ctx); err != nil {
			p.n.log.Debug("layer not fetched ahead", slog.String("digest", l.Digest.String()), slog.Any("error", err))
		}
	})
}

// given notes that this host's engine gets a blob now; it is not fetched ahead for it again.
func (p *prefetch) given(d oci.Digest) { p.has.Set(d, struct{}{}) }
