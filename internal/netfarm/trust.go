package netfarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// trustNone in a node's environment has its farm without trust: then it is for all nodes.
const trustNone = "P2PD_TRUST_MODE=none"

// tokenLife is how long a token is good that a node joins with.
const tokenLife = 10 * time.Minute

// membership is how the nodes of a farm become its members: the first one founds the farm, and each other one gets a token
// from one that runs.
type membership struct {
	mu      sync.Mutex
	founded chan struct{} // closed when the first node is ready, nil before one has begun
	nodes   []*Node
}

// admit is what the environment of a node on the host must have besides, and what to call when it is ready, with nil when
// it is not.
//
// One that has nobody to join, where others have founded a farm already, is a farm of one.
func (m *membership) admit(ctx context.Context, h *Host, config string, env []string) (more []string, ready func(*Node), err error) {
	if slices.Contains(env, trustNone) {
		return nil, func(*Node) {}, nil
	}
	if _, err := os.Stat(filepath.Join(h.dir, "p2pd", "trust", "node.crt")); err == nil {
		return nil, m.add, nil
	}
	m.mu.Lock()
	founded := m.founded
	if founded == nil {
		m.founded = make(chan struct{})
		first := m.founded
		m.mu.Unlock()
		return []string{"P2PD_JOIN="}, func(n *Node) { m.add(n); close(first) }, nil
	}
	m.mu.Unlock()
	if strings.Contains(config, "\njoin: []\n") {
		return nil, func(*Node) {}, nil
	}
	select {
	case <-founded:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	token, err := m.token(ctx)
	return []string{"P2PD_TRUST_TOKEN=" + token}, m.add, err
}

// FoundAnew has the next node that starts found a farm of its own: the data of those before it is gone.
func (f *Farm) FoundAnew() {
	f.members.mu.Lock()
	defer f.members.mu.Unlock()
	f.members.founded, f.members.nodes = nil, nil
}

func (m *membership) add(n *Node) {
	if n == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes = append(m.nodes, n)
}

// token asks the nodes for one, until one gives it.
func (m *membership) token(ctx context.Context) (string, error) {
	m.mu.Lock()
	nodes := slices.Clone(m.nodes)
	m.mu.Unlock()
	var errs []error
	for _, n := range slices.Backward(nodes) {
		t, err := n.admin.CreateToken(ctx, tokenLife, 1)
		if err == nil {
			return t.Token, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("get a token from %d nodes: %w", len(nodes), errors.Join(errs...))
}
