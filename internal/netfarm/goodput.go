package netfarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// settle is how long a connection runs before Goodput measures: bursts are through and its window is open.
const settle = 500 * time.Millisecond

// Goodput measures how many bytes a second one TCP connection carries from one host to the other, over some time. Other
// traffic on their links counts against it.
func Goodput(ctx context.Context, from, to *Host, over time.Duration) (float64, error) {
	rate, err := goodput(ctx, from, to, over)
	if err != nil {
		return 0, fmt.Errorf("measure the way from %s to %s: %w", from.name, to.name, err)
	}
	return rate, nil
}

func goodput(ctx context.Context, from, to *Host, over time.Duration) (float64, error) {
	listener, err := from.Listen(ctx, "tcp", from.addr.String()+":0")
	if err != nil {
		return 0, err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		pour(listener)
	}()
	defer func() {
		_ = listener.Close()
		<-sent
	}()
	conn, err := to.Dial(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, _, err := drain(conn, settle); err != nil {
		return 0, err
	}
	n, took, err := drain(conn, over)
	return float64(n) / took.Seconds(), err
}

// pour writes to one connection for as long as it is open.
func pour(listener net.Listener) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	zeros := make([]byte, 1<<20)
	for err == nil {
		_, err = conn.Write(zeros)
	}
}

// drain reads for some time.
func drain(conn net.Conn, over time.Duration) (n int64, took time.Duration, err error) {
	start := time.Now()
	if err := conn.SetReadDeadline(start.Add(over)); err != nil {
		return 0, 0, err
	}
	n, err = io.Copy(io.Discard, conn)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		err = nil
	}
	return n, time.Since(start), err
}
