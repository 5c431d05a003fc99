package procfarm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pullonce/pullonce/adminapi"
)

const (
	tokenLife = 10 * time.Minute
	// foundTime is how long the first node may take until it gives a token, tokenPause the pause between two tries.
	foundTime, tokenPause = 30 * time.Second, 20 * time.Millisecond
)

// admit starts a node of a farm whose members know each other: the first one founds its trust, the others join it by a
// token, and who was a member before is one again.
func (f *Farm) admit(ctx context.Context, n *Node) error {
	if f.cfg.NoTrust || n.member() {
		return n.Start()
	}
	if len(f.Nodes) == 0 {
		return n.start("P2PD_JOIN=")
	}
	if f.token == "" {
		var err error
		if f.token, err = f.Nodes[0].token(ctx, f.cfg.Nodes); err != nil {
			return fmt.Errorf("get a token for %s: %w", n.Host, err)
		}
	}
	return n.start("P2PD_TRUST_TOKEN=" + f.token)
}

// member tells whether the node has a certificate of a farm.
func (n *Node) member() bool {
	_, err := os.Stat(filepath.Join(n.dir, "trust", "node.crt"))
	return err == nil
}

// token has the node make a token for so many uses, as soon as it can.
func (n *Node) token(ctx context.Context, uses int) (string, error) {
	c, err := adminapi.NewClient(n.Admin)
	if err != nil {
		return "", err
	}
	c = c.WithToken(n.secret)
	ctx, cancel := context.WithTimeout(ctx, foundTime)
	defer cancel()
	for {
		t, err := c.CreateToken(ctx, tokenLife, uses)
		if err == nil {
			return t.Token, nil
		}
		if !n.Running() {
			return "", fmt.Errorf("p2pd on %s has ended; see %s", n.Host, n.Log)
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), err)
		case <-time.After(tokenPause):
		}
	}
}

// adminToken makes what lets a client of the node's admin API change the farm, in a file of that name.
func adminToken(file string) (secret string, err error) {
	secret = rand.Text()
	return secret, os.WriteFile(file, []byte(secret), 0o600)
}
