// Package procfarm runs a farm of p2pd processes on one machine, each on its own loopback address, for tests and
// benchmarks that need real processes: to kill, to stop in their tracks, to measure.
//
// A Farm belongs to one goroutine; its nodes may be used by several.
package procfarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

// Config says what farm to start.
type Config struct {
	Nodes    int
	Program  string            // p2pd; see Build
	Dir      string            // for data and logs
	Upstream string            // URL of docker.io
	First    int               // the farm's addresses are 127.0.First.1 and so on; default 0
	Extra    string            // YAML that is added to each node's configuration
	Zones    []string          // of the nodes, in turn; none: all ""
	Env      map[string]string // added to the environment
	// NoTrust has the nodes take everybody for a member. Else they know each other by the certificates of a farm that the
	// first one founds.
	NoTrust bool
}

// A Farm is a set of p2pd processes.
type Farm struct {
	Nodes []*Node
	cfg   Config
	token string // with which nodes become members; "": not made yet
}

// A Node is one p2pd process.
type Node struct {
	Host     string // its loopback address
	Registry string // URL of the registry door
	Admin    string // URL of the admin API
	Log      string // file with what it wrote

	program string
	dir     string
	env     []string
	secret  string // lets clients of the admin API change the farm

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
}

// Ports that every node uses on its own address.
const (
	registryPort = "5000"
	peerPort     = "7947"
	gossipPort   = "7946"
	adminPort    = "5080"
)

// Build builds p2pd into dir and gives its path.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "p2pd")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/pullonce/pullonce/cmd/p2pd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build p2pd: %w\n%s", err, out)
	}
	return path, nil
}

// Start starts a farm and waits until every node's ring has all of them. On failure nothing is left running.
func Start(ctx context.Context, cfg Config) (*Farm, error) {
	f := &Farm{cfg: cfg}
	var seeds []string
	for i := range min(cfg.Nodes, 3) {
		seeds = append(seeds, net.JoinHostPort(f.host(i), gossipPort))
	}
	for i := range cfg.Nodes {
		n, err := f.node(i, seeds)
		if err == nil {
			err = f.admit(ctx, n)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.Nodes = append(f.Nodes, n)
	}
	if err := f.Settle(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Farm) host(i int) string { return fmt.Sprintf("127.0.%d.%d", f.cfg.First, i+1) }

func (f *Farm) node(i int, seeds []string) (*Node, error) {
	host := f.host(i)
	dir := filepath.Join(f.cfg.Dir, fmt.Sprintf("node-%d", i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	at := func(port string) string { return net.JoinHostPort(host, port) }
	zone := ""
	if len(f.cfg.Zones) > 0 {
		zone = f.cfg.Zones[i%len(f.cfg.Zones)]
	}
	mode := "auto"
	if f.cfg.NoTrust {
		mode = "none"
	}
	secretFile := filepath.Join(dir, "admin-token")
	secret, err := adminToken(secretFile)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`data_dir: %s
zone: %q
registry: {listen: %q}
peer: {listen: %q}
gossip: {listen: %q}
admin: {listen: %q, socket: "", token_file: %q}
join: ["%s"]
trust: {mode: %s}
upstreams: {docker.io: {url: %q}}
%s
`, dir, zone, at(registryPort), at(peerPort), at(gossipPort), at(adminPort), secretFile,
		strings.Join(seeds, `", "`), mode, f.cfg.Upstream, f.cfg.Extra)
	if err := os.WriteFile(filepath.Join(dir, "p2pd.yaml"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	n := &Node{
		Host: host, Registry: "http://" + at(registryPort), Admin: "http://" + at(adminPort),
		Log: filepath.Join(dir, "log"), program: f.cfg.Program, dir: dir, secret: secret,
		env: append(os.Environ(), "P2PD_CACHE_MIN_FREE=1MiB", "P2PD_HOSTED_MIN_FREE=1MiB"), // the machine may be nearly full
	}
	for k, v := range f.cfg.Env {
		n.env = append(n.env, k+"="+v)
	}
	return n, nil
}

// Start starts the process, for the first time or again.
func (n *Node) Start() error { return n.start() }

// start starts the process with env on top of its environment.
func (n *Node) start(env ...string) error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(n.program, "--config", filepath.Join(n.dir, "p2pd.yaml"))
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, slices.Concat(n.env, env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start p2pd: %w", err)
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}

// PID is the process's id.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Pid
}

// Running tells whether the process has not ended.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Signal sends the process a signal: SIGSTOP cuts it off without a word, SIGCONT brings it back.
func (n *Node) Signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Signal(s)
}

// Kill ends the process at once and waits for it.
func (n *Node) Kill() {
	_ = n.Signal(syscall.SIGKILL)
	<-n.done
}

// Stop ends the process as an operator does, and kills it when it has not ended after a while.
func (n *Node) Stop() error {
	if !n.Running() {
		return nil
	}
	_ = n.Signal(syscall.SIGCONT)
	_ = n.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
		return nil
	case <-time.After(30 * time.Second):
		n.Kill()
		return fmt.Errorf("p2pd on %s did not stop within 30 s", n.Host)
	}
}

// Close stops all processes.
func (f *Farm) Close() error {
	var group sync.WaitGroup
	errs := make([]error, len(f.Nodes))
	for i, n := range f.Nodes {
		group.Go(func() { errs[i] = n.Stop() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// Settle waits until every node that runs answers and they have one ring with all of the farm in it.
func (f *Farm) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f.settled(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("farm of %d did not settle: %w", f.cfg.Nodes, last)
		case <-tick.C:
		}
	}
}

func (f *Farm) settled(ctx context.Context) error {
	hash := ""
	for _, n := range f.Nodes {
		if !n.Running() {
			text, _ := os.ReadFile(n.Log)
			return fmt.Errorf("p2pd on %s has ended: %s", n.Host, text[max(0, len(text)-2000):])
		}
		s, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if hash == "" {
			hash = s.Ring.Hash
		}
		if s.Ring.Hash != hash {
			return errors.New("rings differ")
		}
		owned := s.Ring.OwnedPartitions
		if f.cfg.Nodes > 1 && (owned == 0 || owned == s.Ring.Partitions) || s.State != "active" {
			return fmt.Errorf("node on %s is not in the ring yet", n.Host)
		}
		members, err := n.members(ctx)
		if err != nil {
			return err
		}
		if members != len(f.Nodes) {
			return fmt.Errorf("node on %s knows %d members", n.Host, members)
		}
	}
	return nil
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (n *Node) get(ctx context.Context, path string, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Admin+path, nil)
	if err != nil {
		return err
	}
	r, err := client.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s at %s: %s", path, n.Host, r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// Status is the node's own status.
func (n *Node) Status(ctx context.Context) (adminapi.NodeStatus, error) {
	var s adminapi.NodeStatus
	err := n.get(ctx, "/v1/node", &s)
	return s, err
}

func (n *Node) members(ctx context.Context) (int, error) {
	var l adminapi.MemberList
	err := n.get(ctx, "/v1/members", &l)
	return len(l.Members), err
}

// CPU is the processor time that the process has used.
func (n *Node) CPU() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
	if err != nil {
		return 0, err
	}
	// Fields 14 and 15, counted from 1, are user and system time in ticks of 10 ms; the second field is in brackets.
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	fields := bytes.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of %d: %q", n.PID(), raw)
	}
	var user, system int64
	if _, err := fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// Memory is a field of the process's status in bytes, such as "RssAnon" or "VmHWM".
func (n *Node) Memory(field string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			var kib int64
			_, err := fmt.Sscan(strings.TrimSpace(value), &kib)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", field, n.PID())
}

// ByUpstreamBytes is the node that has read the most from the upstream: the owner, when there is one blob.
func (f *Farm) ByUpstreamBytes(ctx context.Context) (*Node, int64, error) {
	var owner *Node
	var most int64
	for _, n := range f.Nodes {
		if !n.Running() {
			continue
		}
		s, err := n.Status(ctx)
		if err != nil {
			return nil, 0, err
		}
		if s.Upstream.BytesReceived > most {
			owner, most = n, s.Upstream.BytesReceived
		}
	}
	return owner, most, nil
}
