package testfarm_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
)

// A holding upstream answers a question for the bytes at off, and sends none of them before it may.
type holding struct {
	*shelf
	off   int64
	asked chan struct{}
	open  chan struct{}
}

func (h *holding) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (transfer.Body, error) {
	body, err := h.shelf.Blob(ctx, repo, d, off, n)
	if err == nil && off == h.off && n == transfer.BlockSize {
		h.asked <- struct{}{}
		body.ReadCloser = &heldBody{body.ReadCloser, h.open}
	}
	return body, err
}

type heldBody struct {
	io.ReadCloser
	open chan struct{}
}

func (b *heldBody) Read(p []byte) (int, error) {
	<-b.open
	return b.ReadCloser.Read(p)
}

func TestABlockThatIsBeingReadIsNotAskedForInOrder(t *testing.T) {
	t.Parallel()
	const size, at = 12 * mib, 6 * mib
	data := randomBytes(1850, size)
	d := oci.FromBytes(oci.SHA256, data)
	up := &holding{shelf: &shelf{blobs: map[oci.Digest][]byte{d: data}}, off: at, asked: make(chan struct{}, 8), open: make(chan struct{})}
	alone := liveAs(t, "alone", up.shelf, func(_ *transfer.Config, p *transfer.Parts) { p.Upstream = up })
	block, whole := make(chan error, 1), make(chan error, 1)
	go func() {
		got, err := alone.block(t.Context(), d, size, at)
		if err == nil && !bytes.Equal(got, data[at:at+mib]) {
			err = io.ErrUnexpectedEOF
		}
		block <- err
	}()
	<-up.asked
	go func() {
		got, err := alone.get(t.Context(), d)
		if err == nil && !bytes.Equal(got, data) {
			err = io.ErrUnexpectedEOF
		}
		whole <- err
	}()
	for up.sent.Load() < at+mib && t.Context().Err() == nil { // what comes before the block is asked for
		if len(whole) > 0 {
			t.Fatal(<-whole)
		}
	}
	close(up.open)
	if err := <-block; err != nil {
		t.Error(err)
	}
	if err := <-whole; err != nil {
		t.Error(err)
	}
	if got := up.sent.Load(); got != size {
		t.Errorf("upstream sent %d bytes; want %d, the block once", got, size)
	}
}
