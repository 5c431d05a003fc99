package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/internal/bulk"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// maxHeadBytes bounds the head of a message: that of a blob may have its note.
const maxHeadBytes = blobstore.MaxNoteBytes + 4<<10

// errStalled says that a peer took or sent no byte for too long.
var errStalled = errors.New("no byte for too long")

// An inbox receives the messages of one stream, whose bytes stay in gRPC's buffers. A peer that falls silent ends it.
type inbox struct {
	stall   time.Duration
	arrived chan letter
	stopped chan struct{}
	timer   *time.Timer
}

type letter struct {
	*bulk.Message
	err error
}

func (l letter) request() *copiespb.StoreRequest { return l.Head.(*copiespb.StoreRequest) }

// openInbox starts to receive. A goroutine does, since only the end of the call ends a receive that waits: it ends
// when the handler has returned.
func openInbox(stream grpc.ServerStream, stall time.Duration) *inbox {
	in := &inbox{stall: stall, arrived: make(chan letter), stopped: make(chan struct{}), timer: time.NewTimer(stall)}
	go func() {
		for {
			l := letter{Message: &bulk.Message{Head: &copiespb.StoreRequest{}, Max: maxHeadBytes}}
			l.err = stream.RecvMsg(l.Message)
			select {
			case in.arrived <- l:
			case <-in.stopped:
				l.Free()
				return
			}
			if l.err != nil {
				return
			}
		}
	}()
	return in
}

// next waits for a message. A stream that just ends is an error: its end would have been said.
func (in *inbox) next(ctx context.Context) (letter, error) {
	in.timer.Reset(in.stall)
	select {
	case l := <-in.arrived:
		if l.err == io.EOF {
			l.err = io.ErrUnexpectedEOF
		}
		if l.err == nil && l.Data.Len() > maxMessage {
			l.Free()
			l.err = status.Errorf(codes.InvalidArgument, "message of %d bytes", l.Data.Len())
		}
		return l, l.err
	case <-in.timer.C:
		return letter{}, fmt.Errorf("receive: %w", errStalled)
	case <-ctx.Done():
		return letter{}, context.Cause(ctx)
	}
}

func (in *inbox) close() {
	in.timer.Stop()
	close(in.stopped)
}
