package transfer

import (
	"sync/atomic"

	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// A listener takes in what a node that has registered says later, from the first moment on: a client may come for a
// blob that the node fetches ahead while that still waits for its place here.
type listener struct {
	stream  transferpb.Transfer_RegisterServer
	session atomic.Pointer[session] // the one that serves the node now
	wanted  atomic.Bool             // a client has come
	entered chan struct{}           // closed when the session has let the node in
	gone    chan error              // what the stream ended with
}

// listenTo begins to take in what the node says; it ends with the stream.
func (e *Engine) listenTo(stream transferpb.Transfer_RegisterServer) *listener {
	l := &listener{stream: stream, entered: make(chan struct{}), gone: make(chan error, 1)}
	e.group.Go(func() { l.gone <- l.listen() })
	return l
}

func (l *listener) listen() error {
	for {
		q, err := l.stream.Recv()
		if err != nil {
			return err
		}
		if q.GetWanted() {
			l.wanted.Store(true)
			if s := l.session.Load(); s != nil {
				s.e.hurry(s.t, Want{})
			}
			continue
		}
		select {
		case <-l.entered:
			l.session.Load().report(q)
		case <-l.stream.Context().Done():
			return l.stream.Context().Err()
		}
	}
}

// serve makes s the session that hears what the node says.
func (l *listener) serve(s *session) {
	l.session.Store(s)
	if l.wanted.Load() {
		s.e.hurry(s.t, Want{})
	}
}

// hurried tells the meeting point that a client has come for a blob for which this node had registered ahead. told tells
// whether it knows.
func (t *task) hurried(stream transferpb.Transfer_RegisterClient, told bool) bool {
	if !told && t.wanted.Load() {
		_ = stream.Send(&transferpb.RegisterRequest{Wanted: true}) // if the stream has ended, attend says why
		return true
	}
	return told
}
