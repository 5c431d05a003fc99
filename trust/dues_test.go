package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unwritable puts a directory where a file is to be, as root may write anything; the result takes it away.
func unwritable(t *testing.T, m *Trust, name string) (again func()) {
	t.Helper()
	path := filepath.Join(m.disk.dir, name)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARevocationHoldsThoughTheDiskIsFull(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "stolen")
		for _, h := range all[:2] {
			free := unwritable(t, h.Trust, stateFile)
			defer free()
		}
		p := connect(t, all[2].Trust, all[1].Trust, "b")
		if p.acceptedError != nil {
			t.Fatal(p.acceptedError)
		}
		keys := string(all[1].GossipKeys()[0])
		if err := all[0].Revoke(t.Context(), "stolen"); err != nil {
			t.Fatal(err)
		}
		w.eventually(10*time.Second, "the revocation holds", func() bool { return all[0].Revoked("stolen") && all[1].Revoked("stolen") })
		if p.talks(t) == nil {
			t.Error("a revoked node is still spoken to")
		}
		w.eventually(5*time.Minute, "the gossip key is another", func() bool {
			list := all[1].GossipKeys()
			return len(list) == 1 && string(list[0]) != keys
		})
		if got := all[1].Trouble(); !strings.HasPrefix(got, "what the farm has agreed on cannot be written: ") {
			t.Errorf("Trouble() = %q; want that the state cannot be written", got)
		}
		h := all[1].changed
		if len(h) == 0 || h[len(h)-1] != all[1].State().Epoch {
			t.Errorf("the node was told of epochs %v; want %d last", h, all[1].State().Epoch)
		}
		for _, h := range all[:2] {
			if err := os.RemoveAll(filepath.Join(h.disk.dir, stateFile)); err != nil {
				t.Fatal(err)
			}
			w.eventually(2*writeAgain, "the state is written", func() bool { return h.Trouble() == "" })
		}
		if again := all[1].restart(); !again.Revoked("stolen") {
			t.Error("after a restart the revocation is gone")
		}
	})
}

func TestACertificateIsRenewedThoughTheDiskIsFull(t *testing.T) {
	inTown(t, Config{Lifetime: 2 * time.Hour}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b")
		b := all[1]
		free := unwritable(t, b.Trust, nodeCert)
		serves := unwritable(t, b.Trust, registryFile)
		if err := b.ServeAs([]string{"b.example"}); err != nil {
			t.Fatal(err)
		}
		old := b.Certificate()
		time.Sleep(time.Until(old.NotAfter.Add(time.Minute)))
		w.settle()
		if !b.Member() {
			t.Error("the certificate was not renewed")
		}
		if pair, err := b.DoorCertificate(nil); err != nil || time.Now().After(pair.Leaf.NotAfter) {
			t.Errorf("the certificate of the registry: %v; want one that holds", err)
		}
		trouble := b.Trouble()
		for _, want := range []string{"this node's certificate cannot be written: ", "the certificate of the registry cannot be written: "} {
			if !strings.Contains(trouble, want) {
				t.Errorf("Trouble() = %q; want %q", trouble, want)
			}
		}
		free()
		serves()
		w.eventually(2*writeAgain, "all is written", func() bool { return b.Trouble() == "" })
		shown := b.Certificate()
		if b = b.restart(); !b.Certificate().Equal(shown) {
			t.Error("after a restart the certificate is another")
		}
	})
}

func TestWhoCannotWriteFoundsNothing(t *testing.T) {
	m := open(t, Config{Node: "one"})
	free := unwritable(t, m, nodeKey+".not") // makes the directory
	free()
	free = unwritable(t, m, caCert)
	if err := m.Found(); err == nil || m.State().Epoch != 0 || m.Certificate() != nil {
		t.Errorf("Found() = %v, epoch %d; want an error and nothing", err, m.State().Epoch)
	}
	free()
	if err := m.Found(); err != nil {
		t.Errorf("Found() again = %v", err)
	}
}
