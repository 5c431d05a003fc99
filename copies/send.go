package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// push sends d, which is whole here, to a node, with the note of the copy here. pace is asked before each message of n
// bytes; it may be nil. With repair the receiver knows that nobody waits for it. The status means something when the
// error is nil: the error is the receiver's silence, or trouble with the copy here.
func (k *Keeper) push(ctx context.Context, to Node, d oci.Digest, repair bool, pace func(ctx context.Context, n int) error) (copiespb.StoreReply_Status, error) {
	info, err := k.parts.Store.Stat(d)
	if err != nil {
		return 0, err
	}
	src, err := openWhole(k.parts.Store, d)
	if err != nil {
		return 0, err
	}
	defer func() { _ = src.close() }()
	s := &sending{k: k, to: to, pace: pace, message: k.cfg.Message, head: &copiespb.StoreRequest_Head{
		Digest: d.String(), Size: info.Size, MediaType: info.MediaType, Note: k.parts.Store.Note(d),
		Algorithm: d.Algorithm(), Repair: repair,
	}}
	if repair && k.cfg.RepairRate > 0 { // a message a second: the receiver must not take the rate for silence
		s.message = int(min(int64(s.message), max(k.cfg.RepairRate, 4<<10)))
	}
	reply, err := s.run(ctx, src)
	if err != nil {
		return 0, fmt.Errorf("send %s to %s: %w", d, to.ID, err)
	}
	return reply.GetStatus(), nil
}

// A sending is one blob on its way to one node.
type sending struct {
	k       *Keeper
	to      Node
	head    *copiespb.StoreRequest_Head
	message int
	pace    func(ctx context.Context, n int) error

	stream grpc.ClientStreamingClient[copiespb.StoreRequest, copiespb.StoreReply]
	stall  *time.Timer // ends the stream when it stands still
	sent   int64
}

// run sends the blob and waits for what the receiver says of it, which may come before all was sent.
func (s *sending) run(ctx context.Context, src source) (*copiespb.StoreReply, error) {
	client, err := s.k.client(s.to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.stall = time.AfterFunc(s.k.cfg.Stall, func() { cancel(errStalled) })
	defer s.stall.Stop()
	if s.stream, err = client.Store(ctx); err != nil {
		return nil, because(ctx, err)
	}
	if err := s.send(ctx, src); err != nil && err != io.EOF { // io.EOF: it has answered already
		cancel(err)
		return nil, because(ctx, err)
	}
	s.stall.Stop()
	defer s.k.watchAnswer(ctx, cancel, client)()
	reply := &copiespb.StoreReply{}
	if err := s.stream.RecvMsg(reply); err != nil {
		return nil, because(ctx, err)
	}
	return reply, nil
}

// because is why a call was ended from here, rather than that it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// send sends head, bytes and end.
func (s *sending) send(ctx context.Context, src source) error {
	if err := s.stream.SendMsg(&copiespb.StoreRequest{Head: s.head}); err != nil {
		return err
	}
	for {
		buf := s.k.buffers.Get(s.message)
		n, err := src.Read(ctx, *buf)
		if err != nil {
			s.k.buffers.Put(buf)
			if err == io.EOF {
				break
			}
			return err
		}
		if err := s.sendBytes(ctx, buf, n); err != nil {
			return err
		}
	}
	end := &copiespb.StoreRequest_End{Digest: src.Digest().String(), Size: s.sent}
	if err := s.stream.SendMsg(&copiespb.StoreRequest{End: end}); err != nil {
		return err
	}
	return s.stream.CloseSend()
}

// sendBytes sends the first n bytes of buf, which is gRPC's from then on. Without bytes it shows that we are there.
func (s *sending) sendBytes(ctx context.Context, buf *[]byte, n int) error {
	s.stall.Reset(s.k.cfg.Stall)
	if n == 0 {
		s.k.buffers.Put(buf)
		return s.stream.SendMsg(&copiespb.StoreRequest{})
	}
	if s.pace != nil {
		if err := s.pace(ctx, n); err != nil {
			s.k.buffers.Put(buf)
			return err
		}
		s.stall.Reset(s.k.cfg.Stall)
	}
	s.sent += int64(n)
	*buf = (*buf)[:n]
	return s.stream.SendMsg(&bulk.Message{
		Head: &copiespb.StoreRequest{}, Data: mem.BufferSlice{mem.NewBuffer(buf, s.k.buffers)},
	})
}

// watchAnswer ends the wait for an answer when the receiver is not there any more, or takes too long to put the blob down.
func (k *Keeper) watchAnswer(ctx context.Context, cancel context.CancelCauseFunc, client copiespb.CopiesClient) (stop func()) {
	ctx, end := context.WithTimeoutCause(ctx, k.cfg.Commit, errStalled)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-time.After(k.cfg.Stall / 2):
			case <-ctx.Done():
				if errors.Is(context.Cause(ctx), errStalled) {
					cancel(errStalled)
				}
				return
			}
			if err := k.ask(ctx, client); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%w: %w", errStalled, err))
				return
			}
		}
	}()
	return func() {
		end()
		<-done
	}
}

// ask returns an error when a peer does not answer.
func (k *Keeper) ask(ctx context.Context, client copiespb.CopiesClient) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Stall)
	defer cancel()
	_, err := client.Offer(ctx, &copiespb.OfferRequest{})
	return err
}

// A bufferPool lends the buffers of messages. gRPC gives one back when its bytes are on their way.
type bufferPool struct{ pool sync.Pool }

// Get lends a buffer of n bytes.
func (p *bufferPool) Get(n int) *[]byte {
	if buf, ok := p.pool.Get().(*[]byte); ok && cap(*buf) >= n {
		*buf = (*buf)[:n]
		return buf
	}
	buf := make([]byte, n)
	return &buf
}

// Put takes a buffer back.
func (p *bufferPool) Put(buf *[]byte) { p.pool.Put(buf) }

// sendAlong sends an upload along while its client sends it.
func (k *Keeper) sendAlong(ctx context.Context, to Node, f *blobstore.Follower) (copiespb.StoreReply_Status, error) {
	s := &sending{k: k, to: to, message: k.cfg.Message, head: &copiespb.StoreRequest_Head{Size: -1, Algorithm: f.Algorithm()}}
	src := &growingSource{Follower: f, beat: k.cfg.Stall / 3, patient: k.cfg.Commit, silent: time.Now()}
	reply, err := s.run(ctx, src)
	return reply.GetStatus(), err
}
