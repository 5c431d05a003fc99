package transfer

import (
	"cmp"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// recordHead is how long the head of a TLS record is; its last two bytes say how long the rest is.
	recordHead = 5
	// recordText is the most that a record carries, recordTail what TLS 1.3 adds to that behind it: the kind, and the seal.
	recordText, recordTail = 16 << 10, 17
	// fetchBytes is the most that is read from a socket at once.
	fetchBytes = 256 << 10
	// batchBytes is the most that is written to one at once: some whole records.
	batchBytes = 16 * (recordHead + recordText + recordTail)
)

// ioBuffers are the buffers that connections have while something is in them.
type ioBuffers struct{ fetches, batches sizedPool }

func newIOBuffers() *ioBuffers {
	return &ioBuffers{fetches: sizedPool{size: fetchBytes}, batches: sizedPool{size: batchBytes}}
}

// A sizedPool has buffers of one size.
type sizedPool struct {
	size int
	pool sync.Pool
}

func (p *sizedPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, p.size)
	return &b
}

func (p *sizedPool) put(b *[]byte) { p.pool.Put(b) }

// records are a connection as TLS sees it from above, made cheap both ways. One read of the socket fetches many records,
// into a buffer that the connection has only until TLS has taken them. TLS is given one record at a time: with the
// beginning of the next one behind it, what TLS keeps for each connection would grow to three times a record. The records
// of one large Write go out together. Reads are made by one goroutine at a time.
type records struct {
	net.Conn
	raw      syscall.RawConn // nil when the connection is none of the kernel's
	buffers  *ioBuffers
	lastByte *atomic.Int64 // as that of a peerConn
	heard    bool          // something has come

	fetched *[]byte // what was read from the socket: bytes r to w are for TLS; nil while there is nothing
	r, w    int
	head    [recordHead]byte
	headed  int // so many bytes of the next record's head were given
	left    int // so many bytes of the record whose head was given are still to be

	writing sync.Mutex // held over writes: what waits in the batch goes before what comes later
	coming  int        // so many bytes of large Writes are still to come as records
	batch   *[]byte    // records that wait for the last of their Write; nil while there is none
	filled  int
	broken  error // what a write failed with; a record after that would begin in the middle of another
}

func newRecords(c net.Conn, buffers *ioBuffers, lastByte *atomic.Int64) *records {
	r := &records{Conn: c, buffers: buffers, lastByte: lastByte}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	return r
}

// Read gives TLS what has come of one record, and waits for that.
func (c *records) Read(b []byte) (int, error) {
	if c.r == c.w {
		if err := c.fetch(); err != nil {
			return 0, err
		}
	}
	have := (*c.fetched)[c.r:c.w]
	n := copy(b, have[:c.within(have, len(b))])
	if c.r += n; c.r == c.w {
		c.buffers.fetches.put(c.fetched)
		c.fetched, c.r, c.w = nil, 0, 0
	}
	return n, nil
}

// within is how many of the bytes that came next, and at most of most, may be given now. They count as given.
func (c *records) within(have []byte, most int) int {
	have = have[:min(len(have), most)]
	heads := 0
	if c.left == 0 {
		heads = copy(c.head[c.headed:], have)
		if c.headed += heads; c.headed < recordHead {
			return heads
		}
		c.headed, c.left = 0, int(binary.BigEndian.Uint16(c.head[recordHead-2:]))
	}
	n := min(c.left, len(have)-heads)
	c.left -= n
	return heads + n
}

// fetch waits until something has come, and only then takes a buffer for it. Nothing may be left to be given.
func (c *records) fetch() error {
	var buf *[]byte
	var n int
	var err error
	if c.raw == nil {
		buf = c.buffers.fetches.get()
		n, err = c.Conn.Read(*buf)
	} else {
		buf, n, err = readReady(c.raw, c.buffers.fetches.get, c.buffers.fetches.put)
	}
	if n == 0 {
		if buf != nil {
			c.buffers.fetches.put(buf)
		}
		return cmp.Or(err, io.ErrNoProgress)
	}
	c.fetched, c.r, c.w, c.heard = buf, 0, n, true // an error that came with bytes comes again
	if c.lastByte != nil {
		c.lastByte.Store(time.Now().UnixNano())
	}
	return nil
}

// expect says that a Write of n bytes is about to come as records, which go out together.
func (c *records) expect(n int) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.coming += n
}

// Write takes one record from TLS. It is on its way when no more of its Write are to come.
func (c *records) Write(record []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	// An alert that gets in between counts as a part of a Write, too: then that is sent a little early.
	c.coming = max(0, c.coming-max(0, len(record)-recordHead-recordTail))
	last := c.coming == 0
	if last && c.filled == 0 {
		n, err := c.Conn.Write(record)
		c.broken = err
		return n, err
	}
	if c.filled+len(record) > batchBytes {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	if c.batch == nil {
		c.batch = c.buffers.batches.get()
	}
	n := copy((*c.batch)[c.filled:], record)
	if c.filled += n; n < len(record) { // a record is never that long
		return n, io.ErrShortWrite
	}
	if last {
		return n, c.send()
	}
	return n, nil
}

// flush sends what waits, after a Write is over.
func (c *records) flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.coming = 0
	return c.send()
}

// send sends what waits. The caller holds writing.
func (c *records) send() error {
	if c.filled == 0 {
		return c.broken
	}
	_, err := c.Conn.Write((*c.batch)[:c.filled])
	c.buffers.batches.put(c.batch)
	c.batch, c.filled, c.broken = nil, 0, err
	return err
}
