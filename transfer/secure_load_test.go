package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func TestCloseAndDeadlinesEndAWriteThatNobodyReads(t *testing.T) {
	a := authority(t)
	for name, end := range map[string]func(net.Conn){
		"Close":            func(c net.Conn) { _ = c.Close() },
		"SetWriteDeadline": func(c net.Conn) { _ = c.SetWriteDeadline(time.Now()) },
	} {
		taken := make(chan net.Conn, 1)
		l := listenTCP(t)
		openSafe(t, a, l, io.Discard, func(c net.Conn) { taken <- c })
		client := &Engine{peers: safePeers(t, a, "client", nil)}
		here, err := client.DialStream(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there := <-taken
		over := make(chan error, 1)
		wrote := make(chan struct{}, 1)
		go func() {
			for {
				if _, err := here.Write(make([]byte, 1<<20)); err != nil {
					over <- err
					return
				}
				select {
				case wrote <- struct{}{}:
				default:
				}
			}
		}()
		for stuck := false; !stuck; {
			select {
			case <-wrote:
			case <-time.After(200 * time.Millisecond): // the kernel takes no more
				stuck = true
			}
		}
		began := time.Now()
		end(here)
		if err := <-over; err == nil || time.Since(began) > 2*time.Second {
			t.Errorf("%s ended a Write with %v after %v; want an error at once", name, err, time.Since(began))
		}
		_, _ = here.Close(), there.Close()
	}
}

func TestManyConnectionsComeAndGoUnderLoad(t *testing.T) {
	a, l := authority(t), listenTCP(t)
	taken := make(chan net.Conn, 64)
	openSafe(t, a, l, io.Discard, func(c net.Conn) { taken <- c })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(2*time.Second, cancel)
	var group sync.WaitGroup
	group.Go(func() { // what arrives is sent back
		var echoes sync.WaitGroup
		defer echoes.Wait()
		for {
			select {
			case c := <-taken:
				echoes.Go(func() {
					defer func() { _ = c.Close() }()
					_, _ = io.Copy(c, c)
				})
			case <-ctx.Done():
				return
			}
		}
	})
	shared := insider(t, a, "client")
	for i := range 4 {
		group.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				p := newPeers(nil)
				p.sealer = shared
				if err := echoOnce(ctx, &Engine{peers: p}, l.Addr().String(), n*(i+1)*7919%(600<<10), n%3 == 0); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				p.close()
			}
		})
	}
	group.Wait()
	for len(taken) > 0 {
		_ = (<-taken).Close()
	}
}

// echoOnce sends bytes over a stream and wants them back, or closes it meanwhile.
func echoOnce(ctx context.Context, e *Engine, address string, size int, breakOff bool) error {
	c, err := e.DialStream(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	sent := bytes.Repeat([]byte{byte(size), byte(size >> 8), 7}, size/3+1)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
	}()
	if breakOff {
		_, _ = io.ReadFull(c, make([]byte, len(sent)/2))
		_ = c.Close()
		<-wrote
		return nil
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("read %d bytes back: %w", len(sent), err)
	}
	if err := <-wrote; err != nil || !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back wrong: %w", len(sent), err)
	}
	return nil
}
