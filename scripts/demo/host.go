package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// A host is one node's process and the addresses that it was given.
type host struct {
	name                            string // the loopback address, with its port where all have one address
	dir                             string
	registry, peer, gossip, adminAt string
	admin                           *adminapi.Client
	secret                          string // lets admin change the farm
	log                             string // path

	process *exec.Cmd
	stop    context.CancelFunc // has the process stop in order
	ended   chan struct{}      // closed when the process has ended
	result  error              // of the process, once it has ended
}

// The ports that nodes have by default, and which the demo takes where they are free.
const (
	registryPort = "5000"
	adminPort    = "5080"
	gossipPort   = "7946"
	peerPort     = "7947"
)

// stopGrace is how long a process may take to stop before it is killed.
const stopGrace = 10 * time.Second

// newHost finds addresses for a host on ip.
func newHost(ip, dir string, anyPorts bool) (*host, error) {
	h := &host{dir: dir, log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	var held []net.Listener // until all four are found, so that they differ
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for _, want := range []struct {
		address *string
		port    string
	}{{&h.registry, registryPort}, {&h.adminAt, adminPort}, {&h.gossip, gossipPort}, {&h.peer, peerPort}} {
		l, err := listen(ip, want.port, anyPorts)
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		*want.address = l.Addr().String()
	}
	admin, err := adminapi.NewClient("http://" + h.adminAt)
	if err != nil {
		return nil, err
	}
	h.secret = rand.Text()
	h.admin = admin.WithToken(h.secret)
	return h, nil
}

func listen(ip, port string, anyPort bool) (net.Listener, error) {
	if !anyPort {
		if l, err := net.Listen("tcp", net.JoinHostPort(ip, port)); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", net.JoinHostPort(ip, "0"))
}

// settings are what all nodes of a farm have alike.
type settings struct {
	upstream   string // URL of the stand-in; "": Docker Hub
	cacheBytes int64
	hosted     bool // the farm has its own images, and reaches no upstream
}

// secretFile is where the node reads what lets others change the farm over HTTP.
func (h *host) secretFile() string { return filepath.Join(h.dir, "admin-token") }

// config is the node's configuration file. A node with seeds joins their farm by a token, one without founds a farm.
func (h *host) config(seeds []string, token string, s settings) string {
	var b strings.Builder
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	p("data_dir: %q", filepath.Join(h.dir, "data"))
	p("registry: {listen: %q, shutdown_grace: 1s}", h.registry)
	p("peer:     {listen: %q}", h.peer)
	p("gossip:   {listen: %q}", h.gossip)
	p("admin:    {listen: %q, socket: %q, token_file: %q}", h.adminAt, "", h.secretFile())
	if len(seeds) > 0 {
		p("join: [%q]", strings.Join(seeds, `", "`))
		p("trust: {token: %q}", token)
	}
	p("cache: {max_size: %d, min_free: 1MiB}", s.cacheBytes)
	if s.upstream != "" {
		p("upstreams: {docker.io: {url: %q}}", s.upstream)
	}
	if s.hosted {
		p("egress: %q", "no")
		p("hosted: {compare_interval: 2s}") // what status says of copies is never older
	}
	return b.String()
}

// start starts the process, which ends with stop and not with ctx: it is still asked after that.
func (h *host) start(ctx context.Context, program, config string) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(h.dir, "p2pd.yaml")
	if err := errors.Join(os.WriteFile(file, []byte(config), 0o600), os.WriteFile(h.secretFile(), []byte(h.secret), 0o600)); err != nil {
		return err
	}
	log, err := os.Create(h.log)
	if err != nil {
		return err
	}
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	h.process = exec.CommandContext(ctx, program, "--config", file)
	h.process.Stdout, h.process.Stderr = log, log
	h.process.Env = withoutKeys(os.Environ())
	h.process.SysProcAttr = attributes()
	h.process.Cancel = func() error { return h.process.Process.Signal(os.Interrupt) }
	h.process.WaitDelay = stopGrace
	started := make(chan error, 1)
	go func() {
		defer func() { _ = log.Close() }()
		defer close(h.ended)
		// The thread that starts the process has to live as long: see attributes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := h.process.Start()
		started <- err
		if err == nil {
			h.result = h.process.Wait()
		}
	}()
	if err := <-started; err != nil {
		h.stop()
		return fmt.Errorf("start the node of %s: %w", h.name, err)
	}
	return nil
}

// withoutKeys leaves out the variables that would change the nodes' configuration.
func withoutKeys(environ []string) []string {
	var out []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "P2PD_") {
			out = append(out, v)
		}
	}
	return out
}

// kill ends the process at once and waits for its end.
func (h *host) kill() error {
	defer h.stop()
	if err := h.process.Process.Kill(); err != nil {
		return fmt.Errorf("kill the node of %s: %w", h.name, err)
	}
	<-h.ended
	return nil
}

// gone says why a process has ended before it was stopped; nil while it runs.
func (h *host) gone() error {
	select {
	case <-h.ended:
		return fmt.Errorf("the node of %s has ended (%w); its last words:\n%s", h.name,
			cmpErr(h.result, errors.New("exit status 0")), h.lastWords())
	default:
		return nil
	}
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// lastWords is the end of the node's log.
func (h *host) lastWords() string {
	raw, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	if len(raw) > most {
		raw = raw[len(raw)-most:]
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			raw = raw[i+1:]
		}
	}
	return strings.TrimSpace(string(raw))
}

// placed is the node's view of itself once it has its place in the ring.
func (h *host) placed(ctx context.Context) (adminapi.NodeStatus, error) {
	s, err := h.status(ctx)
	if err == nil && s.Ring.OwnedPartitions == 0 {
		err = fmt.Errorf("the node of %s, which is %s, has no place in its ring", h.name, s.State)
	}
	return s, err
}

// token has the node make a token for one node more.
func (h *host) token(ctx context.Context) (string, error) {
	t, err := h.admin.CreateToken(ctx, settleTime, 1)
	if err != nil {
		return "", fmt.Errorf("get a token from the node of %s: %w", h.name, err)
	}
	return t.Token, nil
}

// status is the node's view of itself.
func (h *host) status(ctx context.Context) (adminapi.NodeStatus, error) {
	s, err := h.admin.Node(ctx, time.Second)
	if err != nil {
		return s, fmt.Errorf("status of the node of %s: %w", h.name, err)
	}
	return s, nil
}
