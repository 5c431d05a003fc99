package testfarm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
)

func TestNodesThatJoinLeaveAndRestartCostNoPullAndNoByteTwice(t *testing.T) {
	t.Parallel()
	const size = 24 * mib
	f := testfarm.Start(t, testfarm.Options{Nodes: 5, Change: func(_ int, c *node.Config) { c.StopGrace = 50 * time.Millisecond }})
	d := put(t, f, 600, size, "library/change")
	slow(f, d, 4*mib) // 6 s
	owner := f.Owner(d)
	others := f.Others(owner)
	restarted, left, stay := others[0], others[1], append([]*testfarm.Node{owner}, others[2:]...)
	pulls := make(chan error, len(stay)+1)
	for _, n := range stay {
		go func() { pulls <- n.Pull(t.Context(), "library/change", d) }()
	}
	for _, n := range []*testfarm.Node{restarted, left} {
		go func() { _ = n.Pull(t.Context(), "library/change", d) }() // may be cut off: its own node stops
	}
	f.Eventually("a quarter of the blob", func() bool { return crossed(f, d) > size/4 })
	joined := f.Add(func(*node.Config) {})
	left.Stop()
	restarted.Restart()
	if got := crossed(f, d); got == size {
		t.Error("the blob was whole before all changes were done; they prove nothing")
	}
	go func() { pulls <- joined.Pull(t.Context(), "library/change", d) }()
	if err := restarted.Pull(t.Context(), "library/change", d); err != nil {
		t.Error(err)
	}
	for range len(stay) + 1 {
		if err := <-pulls; err != nil {
			t.Error(err)
		}
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes; want %d", got, size)
	}
	left.Start()
	if err := left.Pull(t.Context(), "library/change", d); err != nil {
		t.Error(err)
	}
	if got := crossed(f, d); got != size {
		t.Errorf("upstream sent %d bytes after a node came back; want %d", got, size)
	}
}

func TestAnOwnerThatStopsHalfWayIsTakenOverFrom(t *testing.T) {
	t.Parallel()
	const size = 24 * mib
	f := testfarm.Start(t, testfarm.Options{Nodes: 4})
	d := put(t, f, 601, size, "library/stopped")
	slow(f, d, 6*mib)
	owner := f.Owner(d)
	others := f.Others(owner)
	pulls := make(chan error, len(others))
	for _, n := range others {
		go func() { pulls <- n.Pull(t.Context(), "library/stopped", d) }()
	}
	f.Eventually("half the blob", func() bool { return crossed(f, d) > size/2 })
	owner.Stop()
	for range others {
		if err := <-pulls; err != nil {
			t.Error(err)
		}
	}
	// What the owner had read and not yet passed on is lost with it.
	if got := crossed(f, d); got > size+4*mib {
		t.Errorf("upstream sent %d bytes of %d; want at most what no live node had again", got, size)
	}
	t.Logf("upstream ÷ unique %.3f", float64(crossed(f, d))/size)
}

func TestARestartedOwnerContinuesItsPartialBlob(t *testing.T) {
	t.Parallel()
	const size = 16 * mib
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { c.StopGrace = 1 }})
	n := f.Nodes[0]
	d := put(t, f, 602, size, "library/partial")
	fault := slow(f, d, 4*mib)
	go func() { _ = n.Pull(t.Context(), "library/partial", d) }() // is cut off
	f.Eventually("half the blob", func() bool { return crossed(f, d) > size/2 })
	n.Restart()
	if err := f.Hub.ClearFault(fault); err != nil {
		t.Fatal(err)
	}
	if err := n.Pull(t.Context(), "library/partial", d); err != nil {
		t.Fatal(err)
	}
	// The piece that was on its way, and what the kernels held of the next ones.
	if got := crossed(f, d); got > size+3*mib {
		t.Errorf("upstream sent %d bytes of %d; want the checked pieces kept over the restart", got, size)
	}
	t.Logf("upstream ÷ unique %.3f", float64(crossed(f, d))/size)
}

func TestANodeWithoutItsIndexServesOn(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1})
	n := f.Nodes[0]
	i := image(t, f, 610, "library/index", "latest", 3*mib, 3000)
	if err := pullImage(t.Context(), n, "library/index", "latest"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.Config.DataDir, "index.db")
	for name, damage := range map[string]func() error{
		"deleted":   func() error { return os.Remove(path) },
		"cut short": func() error { return os.Truncate(path, 5000) },
		"garbage":   func() error { return os.WriteFile(path, randomBytes(611, 64<<10), 0o600) },
		"empty":     func() error { return os.Truncate(path, 0) },
	} {
		n.Stop()
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		before := f.Hub.Stats()
		n.Start()
		if err := pullImage(t.Context(), n, "library/index", i.Digest.String()); err != nil {
			t.Errorf("with an index that is %s: %v", name, err)
		}
		if after := f.Hub.Stats(); after.BlobBytes != before.BlobBytes || after.ManifestGets != before.ManifestGets {
			t.Errorf("with an index that is %s the upstream was asked for %d bytes and %d manifests again", name,
				after.BlobBytes-before.BlobBytes, after.ManifestGets-before.ManifestGets)
		}
	}
}

// blobFile is where a node keeps a whole blob.
func blobFile(n *testfarm.Node, d oci.Digest) string {
	return filepath.Join(n.Config.DataDir, "blobs", d.Algorithm(), d.Hex()[:2], d.Hex())
}

// rot turns a byte of a file on disk.
func rot(t *testing.T, path string, at int64) {
	t.Helper()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{^b[0]}, at); err != nil {
		t.Fatal(err)
	}
}

func TestRotInACachedBlobIsHealedWhileItIsServed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nodes    int
		size     int
		at       int64
		upstream int64 // bytes that the healing may cost
	}{
		"from a peer":                    {3, 6 * mib, 3*mib + 7, 0},
		"from a peer, the last byte":     {3, 6*mib + 9, 6*mib + 8, 0},
		"from a peer, a small blob":      {3, 3000, 100, 0},
		"from the upstream":              {1, 6 * mib, 3*mib + 7, mib},
		"from the upstream, first byte":  {1, 6 * mib, 0, mib},
		"from the upstream, a small one": {1, 3000, 100, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testfarm.Start(t, testfarm.Options{Nodes: c.nodes, Hub: hub.Config{}})
			d := put(t, f, 620+uint64(c.size), c.size, "library/rot")
			pullAt(t, "library/rot", d, f.Nodes...)
			n := f.Nodes[0]
			f.Eventually("the blob on disk", func() bool { _, err := os.Stat(blobFile(n, d)); return err == nil })
			n.Stop()
			rot(t, blobFile(n, d), c.at)
			n.Start()
			if c.nodes > 1 {
				f.Settle()
			}
			for range 2 {
				if err := n.Pull(t.Context(), "library/rot", d); err != nil {
					t.Error(err)
				}
			}
			if got := crossed(f, d) - int64(c.size); got > c.upstream {
				t.Errorf("healing cost %d bytes of the upstream; want at most %d", got, c.upstream)
			}
		})
	}
}

func TestARottenBlobIsNotPassedOn(t *testing.T) {
	t.Parallel()
	f := testfarm.Start(t, testfarm.Options{Nodes: 3})
	const size = 6 * mib
	d := put(t, f, 630, size, "library/passed")
	owner := f.Owner(d)
	pullAt(t, "library/passed", d, owner)
	f.Eventually("the blob on disk", func() bool { _, err := os.Stat(blobFile(owner, d)); return err == nil })
	owner.Stop()
	rot(t, blobFile(owner, d), 4*mib+1)
	owner.Start()
	f.Settle()
	pullAt(t, "library/passed", d, f.Nodes...)
	if got := crossed(f, d); got > size+mib {
		t.Errorf("upstream sent %d bytes; want the blob and one piece anew", got)
	}
}
