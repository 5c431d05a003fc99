package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// set writes a setting through a node.
func (f *fakeNode) set(key, value string) error {
	c := f.net.running(f.id)
	if c == nil {
		return errConnRefused
	}
	r, err := c.catalog.Apply(context.Background(), Command{Do: SetSetting{Key: key, Value: []byte(value)}})
	if err == nil {
		err = r.Err
	}
	return err
}

// witness writes through every node all the time, and remembers which catalog took what.
type witness struct {
	net  *fakeNetwork
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu    sync.Mutex
	acked map[string]map[string]string // catalog -> key -> node
	slow  error                        // an answer that took over two seconds
}

func (n *fakeNetwork) watch() *witness {
	w := &witness{net: n, stop: make(chan struct{}), acked: map[string]map[string]string{}}
	for _, f := range n.nodes {
		w.done.Go(func() { w.write(f) })
	}
	n.witness = w
	return w
}

func (w *witness) write(f *fakeNode) {
	for i := 0; ; i++ {
		select {
		case <-w.stop:
			return
		case <-time.After(300 * time.Millisecond):
		}
		running := w.net.running(f.id)
		if running == nil {
			continue
		}
		c := running.catalog
		key, start := fmt.Sprintf("%s-%d", f.id, i), time.Now()
		before := c.identity()
		err := f.set(key, "x")
		after := c.identity()
		w.mu.Lock()
		if took := time.Since(start); took > 2*time.Second {
			w.slow = fmt.Errorf("a write through %s took %v: %w", f.id, took, errors.Join(err, w.slow))
		}
		if err == nil && before.Catalog == after.Catalog {
			if w.acked[after.Catalog] == nil {
				w.acked[after.Catalog] = map[string]string{}
			}
			w.acked[after.Catalog][key] = f.id
		}
		w.mu.Unlock()
	}
}

// end stops the writers and tells which catalogs took writes.
func (w *witness) end() map[string]map[string]string {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
	if w.slow != nil {
		w.net.t.Error(w.slow)
	}
	return w.acked
}

// one fails the test unless exactly one catalog took writes and has all of them, and all nodes that run use it.
func (w *witness) one() {
	w.net.t.Helper()
	n := w.net
	time.Sleep(time.Second)
	n.until(30*time.Second, "every node writes", func() bool {
		for _, f := range n.nodes {
			if n.running(f.id) != nil && f.set("end", f.id) != nil {
				return false
			}
		}
		return true
	})
	acked := w.end()
	if len(acked) != 1 {
		n.t.Fatalf("%d catalogs took writes; want 1\n%v\n%s", len(acked), acked, n.dump())
	}
	for id, keys := range acked {
		w.complete(id, keys)
	}
}

func (w *witness) complete(catalog string, keys map[string]string) {
	w.net.t.Helper()
	checked := 0
	for _, f := range w.net.nodes {
		r := w.net.running(f.id)
		if r == nil {
			continue
		}
		if got := r.catalog.identity().Catalog; got != catalog {
			w.net.t.Errorf("%s uses catalog %s; want %s", f.id, got, catalog)
		}
		view, err := r.catalog.Read(context.Background(), false)
		if err != nil {
			continue
		}
		checked++
		for key, through := range keys {
			if view.Setting(key) == nil {
				w.net.t.Errorf("%s has lost %s, which was acknowledged through %s", f.id, key, through)
			}
		}
	}
	if checked == 0 {
		w.net.t.Errorf("no node can be read\n%s", w.net.dump())
	}
}

// none fails the test if any catalog takes writes.
func (w *witness) none() {
	w.net.t.Helper()
	if acked := w.end(); len(acked) != 0 {
		w.net.t.Errorf("%d catalogs took writes; want none\n%s", len(acked), w.net.dump())
	}
}

// seeds runs f in virtual time with many seeds, or with the one that CATALOG_SEED names.
func seeds(t *testing.T, count int, f func(t *testing.T, n *fakeNetwork)) {
	t.Parallel()
	if testing.Short() {
		count = min(count, 5)
	}
	for _, seed := range seedsToRun(t, count) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("replay with: CATALOG_SEED=%d go test ./catalog -run '%s'", seed, parent(t.Name()))
				}
			}()
			bubble(t, seed, f)
		})
	}
}
