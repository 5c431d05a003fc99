package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pullonce/pullonce/internal/netfarm"
)

const (
	goodputPort = 9999
	goodputTime = 3 * time.Second
	// goodputSkip is what does not count: it may have gone as the links' burst, and while TCP was starting.
	goodputSkip = 4 << 20
)

// goodput is how many bytes a second plain TCP carries from one host to another now.
func goodput(ctx context.Context, from, to *netfarm.Host) (_ float64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("measure the goodput from %s to %s: %w", from.Name(), to.Name(), err)
		}
	}()
	address := netip.AddrPortFrom(to.Addr(), goodputPort).String()
	listener, err := to.Listen(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	out, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	in, err := listener.Accept()
	if err != nil {
		return 0, errors.Join(err, out.Close())
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		buffer := make([]byte, 128<<10)
		for {
			if _, err := out.Write(buffer); err != nil {
				return
			}
		}
	}()
	speed, err := receive(in)
	_ = in.Close()
	_ = out.Close()
	<-sent
	return speed, err
}

// receive reads for a while and returns the bytes a second.
func receive(in net.Conn) (float64, error) {
	if err := in.SetReadDeadline(time.Now().Add(4 * goodputTime)); err != nil {
		return 0, err
	}
	buffer := make([]byte, 256<<10)
	for skip := goodputSkip; skip > 0; {
		n, err := in.Read(buffer)
		if err != nil {
			return 0, err
		}
		skip -= n
	}
	start, bytes := time.Now(), 0
	for time.Since(start) < goodputTime {
		n, err := in.Read(buffer)
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}
