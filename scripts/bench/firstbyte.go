package main

import (
	"context"
	"errors"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

const (
	firstByteNodes = 3
	// firstByteBlobs is how many cold blobs are pulled in a run; a third of them are the asked node's own.
	firstByteBlobs = 24
)

// measureFirstByte compares the time to the first byte of cold blobs: straight from the stand-in, through the node that
// owns them, and through one that does not. Tokens and connections are there in all cases.
func measureFirstByte(ctx context.Context, b *bench, s *sheet) error {
	owner := s.line("added by a node that owns the blob", "ms", atMost(5), "distribution v3 20, zot 3,500 for 1 GiB")
	other := s.line("added by a node that does not", "ms", atMost(10), "Kraken 1,400 and more for 1 GiB")
	straight := s.line("straight from the stand-in", "ms", nil, "")
	image, err := b.image(130, layers(firstByteBlobs+1, 16*mib)...)
	if err != nil {
		return err
	}
	h, err := b.hub(0, image)
	if err != nil {
		return err
	}
	for range b.runs {
		t, err := b.firstBytes(ctx, h, image)
		if err != nil {
			return errors.Join(err, h.Close())
		}
		base := median(t.straight)
		owner(median(t.owner) - base)
		other(median(t.other) - base)
		straight(base)
	}
	return h.Close()
}

// firstBytes are times to the first byte in milliseconds.
type firstBytes struct{ straight, owner, other []float64 }

func (b *bench) firstBytes(ctx context.Context, h *hub.Hub, image *images.Image) (t firstBytes, err error) {
	f, err := b.farm(ctx, firstByteNodes, h.URL(), "")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	select {
	case <-time.After(announceTime):
	case <-ctx.Done():
		return t, ctx.Err()
	}
	direct, node := newClient(h.URL()), newClient(f.Nodes[0].Registry)
	defer direct.close()
	defer node.close()
	if err := direct.authorize(ctx, h.TokenURL(), repo); err != nil {
		return t, err
	}
	if err := b.memory.hold(ctx); err != nil {
		return t, err
	}
	for i, layer := range image.Layers {
		plain, err := direct.blob(ctx, repo, layer.Digest.String())
		if err != nil {
			return t, err
		}
		before, err := f.Nodes[0].Status(ctx)
		if err != nil {
			return t, err
		}
		through, err := node.blob(ctx, repo, layer.Digest.String())
		if err != nil {
			return t, err
		}
		if err := stored(ctx, f.Nodes[0], layer.Size*int64(i+1)); err != nil {
			return t, err
		}
		after, err := f.Nodes[0].Status(ctx)
		if err != nil {
			return t, err
		}
		if i == 0 {
			continue // it opened the connections and got the tokens
		}
		t.straight = append(t.straight, millis(plain.first))
		if after.Upstream.BytesReceived-before.Upstream.BytesReceived >= layer.Size {
			t.owner = append(t.owner, millis(through.first))
		} else {
			t.other = append(t.other, millis(through.first))
		}
	}
	if len(t.owner) == 0 || len(t.other) == 0 {
		return t, errors.New("the blobs have all one owner")
	}
	return t, nil
}
