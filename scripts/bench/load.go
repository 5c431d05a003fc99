package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// A loadResult is what a server did under load.
type loadResult struct {
	perSecond float64
	p99       time.Duration
}

// load sends the same GET over so many connections, one request at a time on each, for so long. It speaks just enough
// HTTP, since it has to share the processors with the server.
func load(ctx context.Context, target, accept string, connections int, lasting time.Duration) (loadResult, error) {
	u, err := url.Parse(target)
	if err != nil {
		return loadResult{}, err
	}
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", u.RequestURI(), u.Host, accept)
	ctx, cancel := context.WithTimeout(ctx, lasting+10*time.Second)
	defer cancel()
	times := make([][]time.Duration, connections)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	end := start.Add(lasting)
	for i := range connections {
		group.Go(func() error {
			var err error
			times[i], err = loadOne(ctx, u.Host, request, end)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return loadResult{}, fmt.Errorf("load on %s: %w", target, err)
	}
	took := time.Since(start)
	all := slices.Concat(times...)
	slices.Sort(all)
	return loadResult{float64(len(all)) / took.Seconds(), percentile(all, 0.99)}, nil
}

func loadOne(ctx context.Context, address string, request []byte, end time.Time) ([]time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	reader := bufio.NewReaderSize(conn, 16<<10)
	var times []time.Duration
	for {
		start := time.Now()
		if start.After(end) {
			return times, nil
		}
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := skipResponse(reader); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
}

// skipResponse reads a response with a Content-Length and checks that it is a 200.
func skipResponse(r *bufio.Reader) error {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", status)
	}
	length := -1
	for {
		header, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		header = bytes.TrimRight(header, "\r\n")
		if len(header) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(header, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("answer without a length")
	}
	_, err = r.Discard(length)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
