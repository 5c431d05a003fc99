package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

const (
	// longLane is how many pieces one request of a single connection is for, and shortLane one of several: so many may
	// wait in memory, since a lane that is read ahead waits there as a whole.
	longLane, shortLane = 16, 4
	// wholeBlob is more pieces than a blob has.
	wholeBlob = 1 << 30
	// early is how many pieces before the end of a lane the next one is asked for, so that a round trip costs nothing.
	early = 3
	// trial is how long a number of connections is tried before it is compared.
	trial = 1500 * time.Millisecond
	// gain is how much faster more connections must be to be kept.
	gain = 1.2
)

// A feed gives a blob's pieces in order, from one connection to the upstream or, when one does not fill the link, from
// several that read ahead in a bounded window. No range is asked for twice, and none is cancelled while the reading
// goes on: an answer that is cut off has cost its bytes already.
type feed struct {
	t        *task
	list     *piece.List
	from, to int

	ctx    context.Context //nolint:containedctx // in a struct since the lanes outlive each call; it ends with close
	cancel context.CancelFunc
	group  sync.WaitGroup
	lanes  []*lane
	asked  int // pieces up to here have a lane
	width  int // connections in use
	depth  int // pieces of a lane that may wait in memory
	pacer  pacer
}

// A lane is a run of pieces that one answer of the upstream brings.
type lane struct {
	from, to int
	pieces   chan *[]byte
	err      error // set before pieces is closed
	taken    int
}

// openFeed opens the first answer, which makes the list if there is none yet. to is -1 when the size is not known. There
// is no feed when piece from has come since the range was chosen, or is about to.
func (t *task) openFeed(ctx context.Context, from, to int) (*feed, error) {
	most := t.lanes()
	to, n := t.settle(from, to, most)
	if to == from {
		t.note(0)
		return nil, nil //nolint:nilnil // nothing is to be read
	}
	ctx, cancel := context.WithCancel(ctx)
	body, err := t.openUpstream(ctx, from, n)
	if err != nil {
		t.note(0)
		cancel()
		return nil, err
	}
	t.mu.Lock()
	list := t.list
	t.mu.Unlock()
	if to < 0 {
		to = list.Count()
	}
	f := &feed{t: t, list: list, from: from, to: to, ctx: ctx, cancel: cancel, width: 1}
	f.depth = waiting(t.e.feeds.Add(1))
	if f.depth < shortLane || body.Skip > 0 {
		most = 1 // many blobs at once fill the link without; and one that gives no ranges would send all over again
	}
	f.pacer = newPacer(most)
	end := to
	if body.End >= 0 && body.End < list.Size() {
		end = int(body.End / list.PieceSize())
	}
	f.start(&lane{from: from, to: min(to, end)}, body)
	f.asked = min(to, end)
	t.note(f.asked)
	return f, nil
}

// note keeps up to which piece the upstream has been asked, for those who wait for a block.
func (t *task) note(asked int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = asked
}

// lanes is how many ranges of the blob may be read at once.
func (t *task) lanes() int {
	t.mu.Lock()
	repo := t.repo
	t.mu.Unlock()
	return max(1, t.e.lanes(repo))
}

// lanes is how many ranges of one blob of a repository may be read at once; 0 when its upstream gives no ranges.
func (e *Engine) lanes(repo oci.Repository) int {
	if e.connections == nil {
		return e.cfg.UpstreamConnections
	}
	return e.connections(repo)
}

// waiting is how many pieces of one lane may wait in memory while so many blobs are read at once.
func waiting(feeds int64) int { return int(min(shortLane, 4*shortLane/max(feeds, 1))) }

// firstBytes is how much to ask for at first: a long lane, or all when that is not much more or one connection is all
// that may be used. What it asks for counts as asked from now on.
func (t *task) firstBytes(from, to, lanes int) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		first := longLane * piece.SizeFor(t.claimed)
		if t.claimed < 2*first || lanes < 2 {
			t.asked = wholeBlob
			return -1
		}
		t.asked = longLane
		return first
	}
	off, _ := t.list.Bounds(from)
	if to-from >= 2*longLane && lanes > 1 {
		to = from + longLane
	}
	t.asked = to
	if to >= t.list.Count() {
		return -1
	}
	end, _ := t.list.Bounds(to)
	return end - off
}

// settle looks again at a range that was chosen before the wait for a place, and says how far it goes by now and how much
// of it to ask for at first. What is asked for is noted before the look, as extend does.
func (t *task) settle(from, to, lanes int) (end int, n int64) {
	t.mu.Lock()
	list := t.list
	t.mu.Unlock()
	if list == nil {
		return to, t.firstBytes(from, to, lanes)
	}
	if to < 0 {
		to = list.Count()
	}
	for {
		n = t.firstBytes(from, to, lanes)
		if end = t.needs(list, from, to); end == to || end == from {
			return end, n
		}
		to = end // fewer pieces may be asked for in another way
	}
}

// start reads a lane from an answer that is open, or opens one.
func (f *feed) start(l *lane, body Body) {
	l.pieces = make(chan *[]byte, f.depth)
	f.lanes = append(f.lanes, l)
	f.group.Go(func() {
		defer close(l.pieces)
		l.err = f.read(l, body)
	})
}

// read cuts a lane's answer into pieces.
func (f *feed) read(l *lane, body Body) error {
	if body.ReadCloser == nil {
		off, _ := f.list.Bounds(l.from)
		end := f.list.Size()
		if l.to < f.list.Count() {
			end, _ = f.list.Bounds(l.to)
		}
		var err error
		if body, err = f.t.openUpstream(f.ctx, l.from, end-off); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(f.ctx, func() { _ = body.Close() })
	defer stop()
	defer func() { _ = body.Close() }()
	for i := l.from; i < l.to; i++ {
		buf, err := f.t.cutPiece(body, f.list, i)
		if err != nil {
			return err
		}
		select {
		case l.pieces <- buf:
		case <-f.ctx.Done():
			f.t.e.taken(buf)
			return f.ctx.Err()
		}
	}
	return nil
}

// cutPiece reads piece i from an answer that stands at it.
func (t *task) cutPiece(body io.Reader, list *piece.List, i int) (*[]byte, error) {
	_, n := list.Bounds(i)
	buf := t.e.buffer(n)
	t.e.feeding.Add(n)
	m, err := io.ReadFull(body, *buf)
	t.e.counters.upstreamBytes.Add(int64(m))
	if err == nil || n == 0 {
		return buf, nil
	}
	t.e.taken(buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("upstream ended within piece %d of %s: %w", i, t.digest, oci.ErrUnavailable)
	}
	return nil, err
}

// goesOn tells whether piece at is still to come from the upstream, and has it asked for if it is.
func (f *feed) goesOn(at int) bool {
	f.extend()
	return at < f.to
}

// next is the next piece's bytes, in a buffer of the engine's.
func (f *feed) next(ctx context.Context) (*[]byte, error) {
	for len(f.lanes) > 0 {
		l := f.lanes[0]
		select {
		case buf, ok := <-l.pieces:
			if ok {
				l.taken++
				f.width = f.pacer.took(len(*buf), time.Now())
				return buf, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if l.err != nil {
			return nil, l.err
		}
		f.lanes = f.lanes[1:]
		f.extend()
	}
	return nil, fmt.Errorf("upstream gave fewer pieces of %s than it has: %w", f.t.digest, oci.ErrUnavailable)
}

// extend asks for the lanes that come next: one when the last piece of the current lane is near, or as many as there
// are connections.
func (f *feed) extend() {
	for f.asked < f.to {
		length := longLane
		if f.width > 1 {
			length = shortLane
		}
		switch open := len(f.lanes); {
		case open == 0:
		case f.width == 1 && (open > 1 || f.left() > early):
			return
		case f.width > 1 && open >= f.width:
			return
		}
		to := min(f.to, f.asked+length)
		f.t.note(to) // before the look at what is read ahead of order: who begins to do that later waits for this lane
		if end := f.t.needs(f.list, f.asked, to); end < to {
			f.to, to = end, end
			f.t.note(to)
			if to == f.asked {
				return
			}
		}
		l := &lane{from: f.asked, to: to}
		f.asked = l.to
		f.start(l, Body{})
	}
}

// left is how many pieces of the lanes that are open have not been taken.
func (f *feed) left() int {
	n := 0
	for _, l := range f.lanes {
		n += l.to - l.from - l.taken
	}
	return n
}

// close stops the lanes and waits for them.
func (f *feed) close() {
	f.cancel()
	for _, l := range f.lanes {
		for buf := range l.pieces {
			f.t.e.taken(buf)
		}
	}
	f.group.Wait()
	f.t.note(0)
	f.t.e.feeds.Add(-1)
}

// taken gives back the buffer of a piece that came from the upstream.
func (e *Engine) taken(buf *[]byte) {
	e.feeding.Add(-int64(len(*buf)))
	e.recycle(buf)
}
