package upstream_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/upstream"
)

func TestAStreamThatIsNotReadCostsNothingOfWhatComesBeforeIt(t *testing.T) {
	h := startHub(t, hub.Config{})
	d, data := put(t, h, repo, 16<<20)
	c := client(t, h.URL(), nil)
	h.MustFault(hub.Fault{Kind: hub.Blob, Do: hub.NoRange})
	s, err := c.Stream(t.Context(), repo, d, 15<<20, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if s.Skip() != 15<<20 {
		t.Errorf("Skip() of an upstream without ranges = %d; want the %d bytes before the range", s.Skip(), 15<<20)
	}
	_ = s.Close()
	if got := c.Stats(); got.Reread != 0 || got.Bytes != 0 {
		t.Errorf("%d bytes were read, %d of them for nothing; want none", got.Bytes, got.Reread)
	}
	s, err = c.Stream(t.Context(), repo, d, 15<<20, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data[15<<20:]) {
		t.Errorf("Stream = %d bytes, %v; want all from byte %d on", len(got), err, 15<<20)
	}
}

func TestAnUpstreamWithoutRangesIsRememberedForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ranged := false
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			if ranged {
				return reply(conn, 206, "Content-Range: bytes 5-9/10\r\n", "56789")
			}
			return reply(conn, 200, "", "0123456789")
		}}
		c := p.in(t, nil)
		ask := func() {
			t.Helper()
			if _, err := fetch(t.Context(), c, digestOf(nil), 5, 5); err != nil {
				t.Fatal(err)
			}
		}
		if !c.Ranges() {
			t.Error("Ranges() before the first answer = false; want true")
		}
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); err != nil || !c.Ranges() {
			t.Errorf("Ranges() after a whole blob that was asked for = %v, %v; want true", c.Ranges(), err)
		}
		if ask(); c.Ranges() {
			t.Error("Ranges() after a range was answered with the whole = true")
		}
		if time.Sleep(time.Hour); !c.Ranges() {
			t.Error("Ranges() an hour later = false; want it tried anew")
		}
		ask()
		ranged = true
		if ask(); !c.Ranges() {
			t.Error("Ranges() after a range was given = false")
		}
	})
}

func TestOneLimitHoldsForAllUpstreamsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			return reply(conn, 200, "", strings.Repeat("x", size))
		}}
		limit := upstream.NewLimit(256 << 10)
		clients := []*upstream.Client{
			p.in(t, func(cfg *upstream.Config) { cfg.Shared = limit }),
			p.in(t, func(cfg *upstream.Config) { cfg.Shared, cfg.BytesPerSecond = limit, 1<<20 }),
		}
		took := elapsed(func() {
			done := make(chan error)
			for i := range 4 {
				go func() { _, err := fetch(t.Context(), clients[i%2], digestOf(nil), 0, -1); done <- err }()
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
		// The first burst, and the last read of each answer, need not be waited for.
		if took < 14*time.Second || took > 17*time.Second {
			t.Errorf("4 MiB of two upstreams at 256 KiB/s together took %v; want nearly 16s", took)
		}
	})
}
