package netfarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A Host is a machine of the farm. Farm.AddHost makes one, Farm.Close removes it.
type Host struct {
	farm      *Farm
	name      string
	addr      netip.Addr
	namespace string
	port      string // at the switch
	dir       string
	file      *os.File // of the namespace

	mu        sync.Mutex
	closed    bool
	processes []*Process
	closers   []func() error
}

func (h *Host) open(ctx context.Context, link Link) error {
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		return err
	}
	if err := addNamespace(ctx, h.namespace); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(namespaceDir, h.namespace))
	if err != nil {
		return err
	}
	h.file = file
	return errors.Join(h.join(ctx, link), h.Resolve(nil))
}

// Name is what AddHost was told.
func (h *Host) Name() string { return h.name }

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// Dir is the folder with the host's files.
func (h *Host) Dir() string { return h.dir }

// Namespace is the name of the host's network namespace, for ip and nsenter.
func (h *Host) Namespace() string { return h.namespace }

// Resolve sets what the host's programs, running ones too, resolve names to, besides localhost.
func (h *Host) Resolve(names map[string]netip.Addr) error {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "127.0.0.1 localhost\n::1 localhost\n%s %s\n", h.addr, h.name)
	lines := make([]string, 0, len(names))
	for name, addr := range names {
		lines = append(lines, fmt.Sprintf("%s %s\n", addr, name))
	}
	slices.Sort(lines)
	text.WriteString(strings.Join(lines, ""))
	// In place: programs have this very file mounted.
	if err := os.WriteFile(h.hostsFile(), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("names of host %s: %w", h.name, err)
	}
	return nil
}

func (h *Host) hostsFile() string { return filepath.Join(h.dir, "hosts") }

// onClose has the host call do when it is removed.
func (h *Host) onClose(do func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closers = append(h.closers, do)
}

func (h *Host) close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	processes, closers := h.processes, h.closers
	h.mu.Unlock()
	var errs []error
	for _, p := range processes {
		p.Kill()
	}
	for _, do := range closers {
		errs = append(errs, do())
	}
	errs = append(errs, removeNamespace(ctx, h.namespace))
	if h.file != nil {
		_ = h.file.Close()
	}
	return errors.Join(errs...)
}
