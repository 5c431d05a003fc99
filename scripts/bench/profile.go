package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/pullonce/pullonce/internal/procfarm"
)

// profileSeconds is how long a profile is.
const profileSeconds = 5

// socketScript gives each node a socket for profiles beside its configuration; $2 is that file.
const socketScript = `#!/bin/sh
P2PD_ADMIN_SOCKET="$(dirname "$2")/p2pd.sock" exec %q "$@"
`

// withSocket makes a program that is p2pd with a socket.
func withSocket(dir, p2pd string) (string, error) {
	path := filepath.Join(dir, "p2pd-with-socket")
	return path, os.WriteFile(path, fmt.Appendf(nil, socketScript, p2pd), 0o755)
}

// profiled starts CPU profiles of nodes if they were asked for; what it returns waits for their end.
func (b *bench) profiled(ctx context.Context, name string, nodes ...*procfarm.Node) func() {
	if b.profile == "" {
		return func() {}
	}
	var group sync.WaitGroup
	for i, n := range nodes {
		path := filepath.Join(b.profile, fmt.Sprintf("%s-%d.prof", name, i))
		group.Go(func() {
			if err := profileNode(ctx, filepath.Join(filepath.Dir(n.Log), "p2pd.sock"), path); err != nil {
				_, _ = fmt.Fprintf(b.log, "  no profile %s: %v\n", path, err)
			}
		})
	}
	return group.Wait
}

func profileNode(ctx context.Context, socket, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost/debug/pprof/profile?seconds=%d", profileSeconds), nil)
	if err != nil {
		return err
	}
	r, err := c.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", r.Status, err)
	}
	return os.WriteFile(path, raw, 0o644)
}
