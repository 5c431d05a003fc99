package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

// elapsed is how long f takes on the bubble's clock.
func elapsed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestAnUpstreamThatHangsBeforeHeadersIsGivenUp(t *testing.T) {
	for name, serve := range map[string]func(*http.Request, net.Conn) bool{
		"says nothing": func(_ *http.Request, conn net.Conn) bool { return hang(conn) },
		"sends headers byte by byte": func(_ *http.Request, conn net.Conn) bool {
			for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: " + strings.Repeat("a", 1000)) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return false
				}
				time.Sleep(time.Second)
			}
			return false
		},
		"hangs in the token": func(q *http.Request, conn net.Conn) bool {
			if q.URL.Path == "/token" {
				return hang(conn)
			}
			return reply(conn, 401, "WWW-Authenticate: Bearer realm=\"http://registry.test/token\"\r\n", "")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: serve}
			c := p.in(t, nil)
			var err error
			took := elapsed(func() { _, _, err = c.Resolve(t.Context(), repo, "1", nil) })
			if !errors.Is(err, oci.ErrUnavailable) || took != 8*time.Second {
				t.Errorf("%s: ResolveTag = %v after %v; want ErrUnavailable after 8s", name, err, took)
			}
			took = elapsed(func() { _, err = fetch(t.Context(), c, digestOf(nil), 0, -1) })
			if !errors.Is(err, oci.ErrUnavailable) || took != 8*time.Second {
				t.Errorf("%s: Blob = %v after %v; want ErrUnavailable after 8s", name, err, took)
			}
		})
	}
}

func TestAConnectionThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, "http://registry.test", func(cfg *upstream.Config) {
			cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		var err error
		took := elapsed(func() { err = c.Ping(t.Context()) })
		if !errors.Is(err, oci.ErrUnavailable) || took != 8*time.Second {
			t.Errorf("Ping = %v after %v; want ErrUnavailable after 8s", err, took)
		}
	})
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	for name, row := range map[string]struct {
		sent string
		want time.Duration
	}{
		"before its first byte": {"", 8 * time.Second}, // of the first-byte timeout, not after it
		"in the middle":         {"12345", 15 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n%s", row.sent)
				return hang(conn)
			}}
			c := p.in(t, nil)
			var got []byte
			var err error
			took := elapsed(func() { got, err = fetch(t.Context(), c, digestOf(nil), 0, -1) })
			if !errors.Is(err, oci.ErrUnavailable) || took != row.want || string(got) != row.sent {
				t.Errorf("stall %s: %q, %v after %v; want %q, ErrUnavailable after %v", name, got, err, took, row.sent, row.want)
			}
		})
	}
}

func TestAReaderThatIsSlowItselfIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const part = 20 << 10 // more than the connection's read buffer, so that each part is a read of its own
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			return reply(conn, 200, "", strings.Repeat("x", 10*part))
		}}
		c := p.in(t, nil)
		body, err := c.Blob(t.Context(), repo, digestOf(nil), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		for i := range 10 {
			time.Sleep(time.Minute)
			if _, err := io.ReadFull(body, make([]byte, part)); err != nil {
				t.Fatalf("part %d: %v", i, err)
			}
		}
	})
}

func TestCallersWhoLeaveDoNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool { return hang(conn) }}
		c := p.in(t, nil)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Ping = %v; want context.DeadlineExceeded", err)
			}
			cancel()
		}
		if s := c.Stats(); s.Open || s.Failures != 0 {
			t.Errorf("open is %v after %d failures; want false, 0", s.Open, s.Failures)
		}
	})
}

func TestABodyThatTricklesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return false
				}
				time.Sleep(5 * time.Second)
			}
		}}
		c := p.in(t, nil)
		for name, get := range map[string]func() error{
			"blob":     func() error { _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); return err },
			"manifest": func() error { _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); return err },
		} {
			var err error
			took := elapsed(func() { err = get() })
			if !errors.Is(err, oci.ErrUnavailable) || took > 45*time.Second {
				t.Errorf("%s: %v after %v; want ErrUnavailable within 45s", name, err, took)
			}
		}
	})
}

func TestALongRetryAfterIsNotWaitedFor(t *testing.T) {
	for _, row := range []struct {
		after string
		tries int
		want  time.Duration
	}{{"60", 1, time.Minute}, {"1", 4, time.Second}, {"", 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
				tries++
				header := ""
				if row.after != "" {
					header = "Retry-After: " + row.after + "\r\n"
				}
				return reply(conn, 429, header, "")
			}}
			c := p.in(t, nil)
			var err error
			took := elapsed(func() { _, _, _, err = c.Manifest(t.Context(), repo, "1", nil) })
			limit, ok := errors.AsType[*oci.TooManyRequestsError](err)
			if !ok || limit.RetryAfter != row.want || tries != row.tries || took > 4*time.Second {
				t.Errorf("Retry-After %q: %v, %d tries in %v; want %v, %d tries", row.after, err, tries, took, row.want, row.tries)
			}
			if n := c.Stats().TooManyRequests; n != int64(tries) {
				t.Errorf("%d were counted; want %d", n, tries)
			}
		})
	}
}

func TestTheBreakerAnswersForAnUpstreamThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, tries := true, 0
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			tries++
			if down {
				return reply(conn, 500, "", "")
			}
			return reply(conn, 200, "", "{}")
		}}
		c := p.in(t, nil)
		get := func() error { _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); return err }
		for range 10 {
			if err := get(); !errors.Is(err, oci.ErrUnavailable) {
				t.Fatalf("Manifest = %v; want ErrUnavailable", err)
			}
		}
		if tries != 8 || !c.Stats().Open {
			t.Errorf("10 calls made %d requests, open is %v; want 8 (the breaker's limit), true", tries, c.Stats().Open)
		}
		if took := elapsed(func() { _ = get() }); took != 0 {
			t.Errorf("a call with the breaker open took %v; want no time", took)
		}
		time.Sleep(2 * time.Second)
		_, _ = get(), get()
		if tries != 9 {
			t.Errorf("%d requests after the first wait; want 9: one probe", tries)
		}
		time.Sleep(2 * time.Second)
		if _ = get(); tries != 9 {
			t.Errorf("%d requests 2 s after a probe that failed; want 9: the wait doubles", tries)
		}
		time.Sleep(2 * time.Second)
		down = false
		if err := get(); err != nil || c.Stats().Open {
			t.Errorf("the probe after it came back = %v, open is %v; want none, false", err, c.Stats().Open)
		}
	})
}

func TestAStreamWaitsForALimitButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := random(200 << 10)
		requests, limited := 0, "10"
		p := &pipes{serve: func(q *http.Request, conn net.Conn) bool {
			requests++
			switch requests {
			case 1:
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(data), data[:100<<10])
				return false
			case 2:
				return reply(conn, 429, "Retry-After: "+limited+"\r\n", "")
			}
			var off int
			_, _ = fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &off)
			return reply(conn, 206, fmt.Sprintf("Content-Range: bytes %d-%d/%d\r\n", off, len(data)-1, len(data)), string(data[off:]))
		}}
		c := p.in(t, nil)
		read := func() (got []byte, err error) {
			s, err := c.Stream(t.Context(), repo, digestOf(data), 0, -1)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return io.ReadAll(s)
		}
		var got []byte
		var err error
		took := elapsed(func() { got, err = read() })
		if err != nil || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("stream with a limit of 10 s = %v after %v; want all after 10 s", err, took)
		}
		equal(t, "stream", got, data)
		requests, limited = 0, "60"
		took = elapsed(func() { _, err = read() })
		if limit, ok := errors.AsType[*oci.TooManyRequestsError](err); !ok || limit.RetryAfter != time.Minute || took > time.Second {
			t.Errorf("stream with a limit of 60 s = %v after %v; want TooManyRequestsError at once", err, took)
		}
	})
}

func TestAStreamThatMakesNoProgressEnds(t *testing.T) {
	for name, give := range map[string]int{"nothing": 0, "a byte each time": 1} {
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			p := &pipes{serve: func(q *http.Request, conn net.Conn) bool {
				requests++
				off := 0
				if n, _ := fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &off); n == 0 {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
				} else {
					fmt.Fprintf(conn, "HTTP/1.1 206 OK\r\nContent-Range: bytes %d-999999/1000000\r\n\r\n", off)
				}
				_, _ = conn.Write(make([]byte, give))
				return false
			}}
			c := p.in(t, nil)
			s, err := c.Stream(t.Context(), repo, digestOf(nil), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, oci.ErrUnavailable) {
				t.Errorf("%s: %v; want ErrUnavailable", name, err)
			}
			if requests != 7 || c.Stats().Resumes != 6 {
				t.Errorf("%s: %d requests, %d resumes; want 7, 6", name, requests, c.Stats().Resumes)
			}
		})
	}
}

func TestAStreamOutlastsAnyNumberOfCutsWithProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := random(2 << 20)
		p := &pipes{serve: func(q *http.Request, conn net.Conn) bool {
			off := 0
			if n, _ := fmt.Sscanf(q.Header.Get("Range"), "bytes=%d-", &off); n == 0 {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data))
			} else {
				fmt.Fprintf(conn, "HTTP/1.1 206 OK\r\nContent-Range: bytes %d-%d/%d\r\n\r\n", off, len(data)-1, len(data))
			}
			_, _ = conn.Write(data[off:min(off+(100<<10), len(data))])
			return false
		}}
		c := p.in(t, nil)
		s, err := c.Stream(t.Context(), repo, digestOf(data), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := io.ReadAll(s)
		if err != nil || c.Stats().Resumes < 20 {
			t.Errorf("stream = %v after %d resumes; want all of it after 20", err, c.Stats().Resumes)
		}
		equal(t, "stream", got, data)
	})
}

func TestAStreamMayBeClosedWhileItIsRead(t *testing.T) {
	for name, serve := range map[string]func(*http.Request, net.Conn) bool{
		"in a body": func(_ *http.Request, conn net.Conn) bool {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
			return hang(conn)
		},
		"between two": func(q *http.Request, conn net.Conn) bool {
			if q.Header.Get("Range") != "" {
				return hang(conn)
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
			return false
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: serve}
			c := p.in(t, nil)
			s, err := c.Stream(t.Context(), repo, digestOf(nil), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(3*time.Second, func() { _ = s.Close() })
			var got []byte
			took := elapsed(func() { got, err = io.ReadAll(s) })
			if string(got) != "12345" || err == nil || took != 3*time.Second {
				t.Errorf("%s: %q, %v after %v; want 12345 and an error after 3s", name, got, err, took)
			}
			_ = s.Close()
		})
	}
}

func TestTheRateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool {
			return reply(conn, 200, "", strings.Repeat("x", size))
		}}
		c := p.in(t, func(cfg *upstream.Config) { cfg.BytesPerSecond = 256 << 10 })
		took := elapsed(func() {
			done := make(chan error)
			for range 4 {
				go func() { _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); done <- err }()
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
		if took < 15*time.Second || took > 17*time.Second {
			t.Errorf("4 MiB by 4 streams at 256 KiB/s took %v; want about 16s", took)
		}
	})
}

func TestAWaitingCallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{serve: func(_ *http.Request, conn net.Conn) bool { return reply(conn, 200, "", "0123456789") }}
		c := p.in(t, func(cfg *upstream.Config) { cfg.MaxConcurrent = 1 })
		body, err := c.Blob(t.Context(), repo, digestOf(nil), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Blob(ctx, repo, digestOf(nil), 0, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second blob with one slot = %v; want context.DeadlineExceeded", err)
		}
		if _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); err != nil {
			t.Errorf("a manifest while a blob has the only slot = %v; want it served", err)
		}
		_, _ = body.Close(), body.Close()
		if _, err := fetch(t.Context(), c, digestOf(nil), 0, -1); err != nil {
			t.Errorf("a blob when the slot is free = %v", err)
		}
	})
}

func TestATokenIsFetchedForThoseWhoStayWhenTheFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		p := &pipes{}
		p.serve = func(q *http.Request, conn net.Conn) bool {
			switch {
			case q.URL.Path == "/token":
				tokens++
				time.Sleep(2 * time.Second)
				return reply(conn, 200, "", `{"token":"t"}`)
			case q.Header.Get("Authorization") == "":
				return reply(conn, 401, "WWW-Authenticate: Bearer realm=\"http://registry.test/token\"\r\n", "")
			}
			return reply(conn, 200, "", "{}")
		}
		c := p.in(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error)
		go func() { _, _, _, err := c.Manifest(ctx, repo, "1", nil); first <- err }()
		synctest.Wait()
		second := make(chan error)
		go func() { _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); second <- err }()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first, who left = %v; want context.DeadlineExceeded", err)
		}
		if err := <-second; err != nil || tokens != 1 {
			t.Errorf("the second = %v with %d tokens; want none with 1", err, tokens)
		}
		time.Sleep(55 * time.Second) // 9/10 of the 60 s that a token without expires_in is good
		if _, _, _, err := c.Manifest(t.Context(), repo, "1", nil); err != nil || tokens != 2 {
			t.Errorf("after its time = %v with %d tokens; want none with 2", err, tokens)
		}
	})
}

func TestARequestGoesThroughTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		p := &pipes{serve: func(q *http.Request, conn net.Conn) bool {
			asked = append(asked, q.RequestURI+" "+q.Header.Get("Proxy-Authorization"))
			return reply(conn, 200, "", "{}")
		}}
		for noProxy, want := range map[string]string{
			"":      "http://registry.test/v2/ Basic cHU6cHA=",
			".test": "/v2/ ",
		} {
			asked = nil
			c := p.in(t, func(cfg *upstream.Config) { cfg.Proxy, cfg.NoProxy = "http://pu:pp@proxy.test:3128", noProxy })
			if err := c.Ping(t.Context()); err != nil || len(asked) != 1 || asked[0] != want {
				t.Errorf("no_proxy %q: asked %q, %v; want %q", noProxy, asked, err, want)
			}
		}
	})
}
