package testfarm_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/testfarm"
)

func TestWhoIsNoPeerIsTurnedAwayAndCounted(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 2})
	n := f.Nodes[0]
	for range 3 {
		c, err := net.Dial("tcp", n.MustStatus().Addresses.Peer)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Error("the connection is still open after 10 s")
		}
		_ = c.Close()
	}
	if got := n.Metric("p2pd_transfer_strangers_total"); got != 3 {
		t.Errorf("%v strangers counted; want 3", got)
	}
	const size = 3 * mib
	d := put(t, f, 810, size, "library/door")
	pullAt(t, "library/door", d, f.Nodes...)
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
}
