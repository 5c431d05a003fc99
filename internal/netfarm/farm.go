package netfarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// firstAddress is that of a farm's first host. All farms have the same addresses, each in namespaces of its own.
var firstAddress = netip.MustParseAddr("10.77.0.1")

const (
	addressBits = 24
	maxHosts    = 200
)

// farms counts the farms of this process, for their names.
var farms atomic.Int64

// Config says how a farm is made. The zero value is good.
type Config struct {
	// Dir is the folder below which the farm keeps its files; empty: the system's temporary folder. It should be short,
	// as a unix socket's path has at most 107 bytes.
	Dir string
	// Keep leaves the files behind after Close.
	Keep bool
}

// A Farm is a switch and the hosts that are joined to it. Make one with New; Close removes it.
type Farm struct {
	name string
	dir  string
	keep bool

	members membership

	mu     sync.Mutex
	hosts  []*Host
	closed bool
}

// New makes a farm without hosts, and removes what farms of programs that are gone have left.
func New(ctx context.Context, cfg Config) (*Farm, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		cfg.Dir = os.TempDir()
	}
	self, err := ownerOf(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("name the farm: %w", err)
	}
	reap(ctx, cfg.Dir)
	f := &Farm{name: fmt.Sprintf("%s%s-%d", namePrefix, self, farms.Add(1)), keep: cfg.Keep}
	f.dir = filepath.Join(cfg.Dir, f.name)
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the farm's folder: %w", err)
	}
	if err := f.makeSwitch(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make the farm's switch: %w", err), f.Close())
	}
	return f, nil
}

// Dir is the folder with the farm's files. Close removes it.
func (f *Farm) Dir() string { return f.dir }

// CAFile has the certificates that programs on the hosts must trust, PEM: those of all stand-ins that were started so
// far. Programs that netfarm starts find it in SSL_CERT_FILE.
func (f *Farm) CAFile() string { return filepath.Join(f.dir, "ca.pem") }

// Hosts are the hosts in the order that they were added.
func (f *Farm) Hosts() []*Host {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Host(nil), f.hosts...)
}

// AddHost adds a host that link joins to the switch. The name is one of a file: a few letters and digits.
func (f *Farm) AddHost(ctx context.Context, name string, link Link) (*Host, error) {
	h, err := f.reserve(name)
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	if err := h.open(ctx, link); err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	return h, nil
}

// reserve gives the host its place, so that Close finds it however far it gets.
func (f *Farm) reserve(name string) (*Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, errors.New("the farm is closed")
	case len(f.hosts) == maxHosts:
		return nil, fmt.Errorf("a farm has at most %d hosts", maxHosts)
	}
	for _, h := range f.hosts {
		if h.name == name {
			return nil, errors.New("there is one of that name")
		}
	}
	addr := firstAddress
	for range f.hosts {
		addr = addr.Next()
	}
	h := &Host{
		farm: f, name: name, addr: addr, namespace: f.name + "-" + name,
		port: fmt.Sprintf("port%d", len(f.hosts)+1), dir: filepath.Join(f.dir, name),
	}
	f.hosts = append(f.hosts, h)
	return h, nil
}

// Close kills everything that runs on the hosts and removes hosts, switch and files. It may be called twice.
func (f *Farm) Close() error {
	f.mu.Lock()
	f.closed = true
	hosts := f.hosts
	f.hosts = nil
	f.mu.Unlock()
	// Not with a context of the caller's: a farm is removed also after an interrupt.
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	errs := make([]error, len(hosts))
	var wait sync.WaitGroup
	for i, h := range hosts {
		wait.Go(func() { errs[i] = h.close(ctx) })
	}
	wait.Wait()
	errs = append(errs, removeNamespace(ctx, f.switchNamespace()))
	if !f.keep {
		errs = append(errs, os.RemoveAll(f.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close farm %s: %w", f.name, err)
	}
	return nil
}
