package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/iotest"
	"time"
)

// A script is a connection that gives what it is told to, in the parts that cut says, and takes down what is written.
type script struct {
	net.Conn
	in     io.Reader
	cuts   []byte
	cut    int
	wrote  [][]byte
	failAt int // the write that fails, from 1 on
}

var errScript = errors.New("the script ends here")

func (s *script) Read(b []byte) (int, error) {
	if len(s.cuts) > 0 {
		b = b[:min(len(b), 1+int(s.cuts[s.cut%len(s.cuts)])*257)]
		s.cut++
	}
	return s.in.Read(b)
}

func (s *script) Write(b []byte) (int, error) {
	if s.failAt > 0 && len(s.wrote)+1 >= s.failAt {
		return len(b) / 2, errScript
	}
	s.wrote = append(s.wrote, bytes.Clone(b))
	return len(b), nil
}

func record(n int, fill byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(n)), bytes.Repeat([]byte{fill}, n)...)
}

// FuzzRecords gives a stream of records, or of what claims to be that, in any parts and reads it into buffers of any size:
// the bytes must be the same, and no read may go past the end of a record.
func FuzzRecords(f *testing.F) {
	f.Add(append(record(100, 1), record(20, 2)...), []byte{0, 3}, []byte{1, 2, 255})
	f.Add(bytes.Repeat(record(16401, 3), 40), []byte{255}, []byte{255, 255})
	f.Add(append(record(0, 0), record(65535, 4)...), []byte{}, []byte{200})
	f.Add([]byte{22, 3}, []byte{0}, []byte{0})
	f.Fuzz(func(t *testing.T, stream, cuts, sizes []byte) {
		c := newRecords(&script{in: bytes.NewReader(stream), cuts: cuts}, newIOBuffers(), nil)
		ends := map[int]bool{}
		for at := 0; at+recordHead <= len(stream); {
			at += recordHead + int(binary.BigEndian.Uint16(stream[at+3:]))
			ends[at] = true
		}
		var got []byte
		for i := 0; ; i++ {
			size := 600
			if len(sizes) > 0 {
				size = 1 + int(sizes[i%len(sizes)])*99
			}
			b := make([]byte, size)
			n, err := c.Read(b)
			for at := len(got) + 1; at < len(got)+n; at++ {
				if ends[at] {
					t.Fatalf("Read gave bytes %d to %d; want none past the end of a record at %d", len(got), len(got)+n, at)
				}
			}
			got = append(got, b[:n]...)
			if err != nil {
				if err != io.EOF {
					t.Fatalf("Read = %v; want the end", err)
				}
				break
			}
			if n == 0 {
				t.Fatal("Read gave nothing")
			}
		}
		if !bytes.Equal(got, stream) {
			t.Fatalf("%d bytes were read of %d, or others", len(got), len(stream))
		}
		if c.fetched != nil {
			t.Error("the connection has kept a buffer")
		}
	})
}

func TestTheRecordsOfAWriteGoOutTogether(t *testing.T) {
	full := record(recordText+recordTail, 1)
	last := record(100+recordTail, 2)
	s := &script{}
	c := newRecords(s, newIOBuffers(), nil)
	write := func(r []byte) {
		t.Helper()
		if n, err := c.Write(r); n != len(r) || err != nil {
			t.Fatalf("Write = %d, %v; want %d", n, err, len(r))
		}
	}
	write(last) // that no Write was announced of goes at once
	if len(s.wrote) != 1 {
		t.Fatalf("%d writes to the socket; want 1", len(s.wrote))
	}
	c.expect(3*recordText + 100)
	for range 3 {
		write(full)
	}
	if len(s.wrote) != 1 {
		t.Fatalf("%d writes to the socket before the last record; want 1", len(s.wrote))
	}
	write(last)
	if want := append(bytes.Repeat(full, 3), last...); len(s.wrote) != 2 || !bytes.Equal(s.wrote[1], want) {
		t.Fatalf("%d writes to the socket; want the four records in one", len(s.wrote)-1)
	}
	c.expect(40 * recordText)
	for range 40 {
		write(full)
	}
	if len(s.wrote) != 5 || !bytes.Equal(bytes.Join(s.wrote[2:], nil), bytes.Repeat(full, 40)) {
		t.Errorf("40 records went out in %d writes; want 3", len(s.wrote)-2)
	}
	if c.batch != nil || c.flush() != nil {
		t.Error("something is left to be sent")
	}
}

func TestAnAlertWithinAWriteKeepsItsPlace(t *testing.T) {
	s := &script{}
	c := newRecords(s, newIOBuffers(), nil)
	full, alert := record(recordText+recordTail, 1), record(2+recordTail, 3)
	c.expect(2 * recordText)
	var want []byte
	for _, r := range [][]byte{full, alert, full} {
		want = append(want, r...)
		if _, err := c.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.flush(); err != nil || !bytes.Equal(bytes.Join(s.wrote, nil), want) {
		t.Errorf("flush = %v; what went out is not what was written, in order", err)
	}
}

func TestNothingGoesOutBehindARecordThatBroke(t *testing.T) {
	s := &script{failAt: 1}
	c := newRecords(s, newIOBuffers(), nil)
	c.expect(2 * recordText)
	full := record(recordText+recordTail, 1)
	if _, err := c.Write(full); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(full); !errors.Is(err, errScript) {
		t.Errorf("Write = %v; want %v", err, errScript)
	}
	s.failAt = 0
	if _, err := c.Write(full); !errors.Is(err, errScript) || len(s.wrote) != 0 {
		t.Errorf("Write after that = %v with %d writes to the socket; want %v and none", err, len(s.wrote), errScript)
	}
	if c.batch != nil {
		t.Error("the connection has kept a buffer")
	}
}

func TestAReadThatFailsKeepsNoBuffer(t *testing.T) {
	c := newRecords(&script{in: iotest.ErrReader(errScript)}, newIOBuffers(), nil)
	if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errScript) || c.fetched != nil || c.heard {
		t.Errorf("Read = %d, %v; want %v and no buffer kept", n, err, errScript)
	}
}

// TestASafeConnectionThatWaitsHoldsNoBuffer sends much both ways over connections that then have nothing to do.
func TestASafeConnectionThatWaitsHoldsNoBuffer(t *testing.T) {
	const connections = 100
	a, l := authority(t), listenTCP(t)
	taken := make(chan net.Conn, connections)
	openSafe(t, a, l, io.Discard, func(c net.Conn) { taken <- c })
	client := &Engine{peers: safePeers(t, a, "client", nil)}
	before := inUse()
	done := make(chan error, 2*connections)
	much := make([]byte, 1<<20)
	talk := func(c net.Conn, out bool) {
		if out {
			_, _ = c.Write(much)
		}
		_, err := io.CopyN(io.Discard, c, int64(len(much)))
		if !out {
			_, _ = c.Write(much)
		}
		done <- err
		_, _ = c.Read(make([]byte, 1)) // waits until the end
	}
	for range connections {
		here, err := client.DialStream(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there := <-taken
		t.Cleanup(func() { _, _ = here.Close(), there.Close() })
		go talk(here, true)
		go talk(there, false)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.Gosched()
	each := (inUse() - before) / connections
	t.Logf("%d KiB for both ends of a connection that has carried much", each>>10)
	if most := uint64(128 << 10); each > most {
		t.Errorf("a waiting connection takes %d bytes at both ends; want at most %d", each, most)
	}
}

func TestABufferIsTakenOnlyWhenSomethingHasCome(t *testing.T) {
	a := authority(t)
	l := listenTCP(t)
	defer func() { _ = l.Close() }()
	conns := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		safe, _, _, err := insider(t, a, "there").server(t.Context(), c)
		if err != nil {
			t.Error(err)
		}
		conns <- safe
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := insider(t, a, "here").client(t.Context(), raw, "", ProtocolStream, nil)
	if err != nil {
		t.Fatal(err)
	}
	there := <-conns
	defer func() { _, _ = here.Close(), there.Close() }()
	got := make(chan error, 1)
	go func() {
		_, err := here.Read(make([]byte, 1))
		got <- err
	}()
	_ = here.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if err := <-got; !isTimeout(err) || here.below.fetched != nil {
		t.Errorf("Read = %v, buffer %t; want the deadline exceeded and none", err, here.below.fetched != nil)
	}
	_ = here.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(there, "hi"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(here, b); err != nil || string(b) != "hi" {
		t.Errorf("ReadFull after a deadline = %q, %v; want hi", b, err)
	}
}
