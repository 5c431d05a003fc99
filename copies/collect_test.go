package copies

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// forget has the catalog not name a blob.
func (v *village) forget(digests ...oci.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range digests {
		v.unnamed[d] = true
	}
}

func (v *village) name(d oci.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.unnamed, d)
}

func TestWhatNobodyNamesIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c")
		named := v.has(data(1, 1000), all["a"], all["b"], all["c"])
		old := v.has(data(2, 2000), all["a"], all["b"])
		v.forget(old)
		for _, dry := range []bool{true, false} { // the nodes have just been started
			if c, err := all["a"].Collect(t.Context(), dry); err != nil || c != (Collected{Young: 1, Kept: 1}) {
				t.Errorf("Collect(%v) = %+v, %v; want one young, one kept", dry, c, err)
			}
		}
		time.Sleep(time.Hour + 2*time.Second)
		young := v.has(data(3, 500), all["a"])
		v.forget(young)
		want := Collected{Blobs: 1, Bytes: 2000, Young: 1, Kept: 1}
		if c, err := all["a"].Collect(t.Context(), true); err != nil || c != want || !all["a"].hostsNow(old) {
			t.Errorf("Collect(dry) = %+v, %v; want %+v and nothing removed", c, err, want)
		}
		if c, err := all["a"].Collect(t.Context(), false); err != nil || c != want || all["a"].hostsNow(old) || !all["a"].hostsNow(young) {
			t.Errorf("Collect = %+v, %v; want %+v and the blob removed", c, err, want)
		}
		farm, err := all["a"].CollectFarm(t.Context(), false)
		if err != nil || len(farm) != 3 || farm["b"].Blobs != 1 || farm["a"].Blobs != 0 || all["b"].hostsNow(old) {
			t.Errorf("CollectFarm = %+v, %v; want one blob removed on b", farm, err)
		}
		time.Sleep(2 * time.Hour)
		if !all["a"].hostsNow(named) {
			t.Error("a named blob was removed")
		}
		v.mu.Lock()
		v.silent = true
		v.mu.Unlock()
		if _, err := all["a"].Collect(t.Context(), false); err == nil || !all["a"].hostsNow(young) {
			t.Errorf("Collect without a catalog = %v; want an error and nothing removed", err)
		}
	})
}

// A blob that is offered, used or pushed again after the catalog was asked stays, however the two are woven.
func TestABlobThatIsUsedDuringACollectionStays(t *testing.T) {
	raw := data(1, 1000)
	d := oci.FromBytes(oci.SHA256, raw)
	for name, use := range map[string]func(t *testing.T, all map[string]*cottage){
		"touched": func(t *testing.T, all map[string]*cottage) {
			if !all["a"].keptHere(d) {
				t.Error("Touch = false; want true")
			}
		},
		"offered": func(t *testing.T, all map[string]*cottage) {
			have, err := all["b"].offerTo(t.Context(), Node{ID: "a", Address: "a"}, []oci.Digest{d})
			if err != nil || !have[d] {
				t.Errorf("offer = %v, %v; want it there", have, err)
			}
		},
		"pushed": func(t *testing.T, all map[string]*cottage) {
			if err := all["b"].store.Put(t.Context(), d, raw, blobstore.Origin{Hosted: true}); err != nil {
				t.Error(err)
			}
			if err := all["b"].Put(t.Context(), d, nil); err != nil {
				t.Errorf("Put = %v; want nil", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVillage(t, nil)
				all := v.build("a", "b")
				v.has(raw, all["a"])
				v.forget(d)
				time.Sleep(3 * time.Hour)
				v.onNamed = func([]oci.Digest) { // the answer is no, and not yet heard
					v.mu.Lock()
					v.onNamed = nil
					v.mu.Unlock()
					use(t, all)
				}
				c, err := all["a"].Collect(t.Context(), false)
				if err != nil || c != (Collected{Young: 1}) || !all["a"].hostsNow(d) {
					t.Errorf("Collect = %+v, %v; want it kept as young", c, err)
				}
			})
		})
	}
}

// Pushes of what is garbage by then race collections. What a push has said to be there, is there.
func TestCollectionsBesidePushesLoseNothing(t *testing.T) {
	v := newVillage(t, func(c *Config) { c.Grace, c.Copies, c.MinCopies = 200*time.Millisecond, 2, 2 })
	all := v.build("a", "b", "c")
	nodes := []*cottage{all["a"], all["b"], all["c"]}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var pushers, collectors sync.WaitGroup
	var removed atomic.Int64
	for _, c := range nodes {
		collectors.Go(func() {
			for ctx.Err() == nil {
				got, err := c.Collect(context.WithoutCancel(ctx), false)
				if err != nil {
					t.Errorf("Collect = %v", err)
				}
				removed.Add(got.Blobs)
				time.Sleep(time.Millisecond)
			}
		})
	}
	pushed := make([]int, 8)
	for n := range pushed {
		pushers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for ctx.Err() == nil {
				raw := data(uint64(100*n+r.IntN(2)), 2000)
				d := oci.FromBytes(oci.SHA256, raw)
				if push(v, nodes[r.IntN(3)], d, raw) != nil {
					continue // the client tries again
				}
				v.name(d)
				if time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond); len(holders(all, d)) < 2 {
					t.Errorf("%s is on %v after its push", d, holders(all, d))
				}
				pushed[n]++
				v.forget(d)
				time.Sleep(time.Duration(100+r.IntN(300)) * time.Millisecond)
			}
		})
	}
	pushers.Wait()
	collectors.Wait()
	if slices.Max(pushed) == 0 || removed.Load() == 0 {
		t.Errorf("%v pushes, %d blobs removed; want both", pushed, removed.Load())
	}
}

// push does as a client's push does: the bytes come to a node, are committed, copied, and then named. Until then they
// must stay for as long as the grace.
func push(v *village, c *cottage, d oci.Digest, raw []byte) error {
	begin := time.Now()
	if err := c.store.Put(v.t.Context(), d, raw, blobstore.Origin{Hosted: true}); err != nil {
		return err
	}
	if err := c.Put(v.t.Context(), d, nil); err != nil {
		return err
	}
	if time.Since(begin) > c.cfg.Grace/2 {
		return fmt.Errorf("push took %v", time.Since(begin))
	}
	return nil
}

func TestNotesAreBroughtInLineWithTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b")
		manifest := func(seed uint64, note string) oci.Digest {
			raw := data(seed, 100)
			d := oci.FromBytes(oci.SHA256, raw)
			for _, c := range all {
				if err := c.store.Put(t.Context(), d, raw, blobstore.Origin{Hosted: true, MediaType: "m", Note: []byte(note)}); err != nil {
					t.Fatal(err)
				}
			}
			return d
		}
		without, older, newer := manifest(1, ""), manifest(2, "1"), manifest(3, "7")
		v.mu.Lock()
		for _, d := range []oci.Digest{without, older, newer} {
			v.notes[d] = []byte("5")
		}
		v.mu.Unlock()
		time.Sleep(time.Minute)
		for d, want := range map[oci.Digest]string{without: "5", older: "5", newer: "7"} {
			if got := string(all["b"].store.Note(d)); got != want {
				t.Errorf("note on %s = %q; want %q", d, got, want)
			}
		}
		v.mu.Lock()
		v.notes[older] = []byte("6")
		v.mu.Unlock()
		time.Sleep(16 * time.Minute)
		if got := string(all["a"].store.Note(older)); got != "6" {
			t.Errorf("note = %q after a while; want 6", got)
		}
	})
}

func TestAllNotesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, func(c *Config) { c.idle = true })
		all := v.build("a", "b", "c")
		want := make(map[oci.Digest]Copy)
		for i := range uint64(40) {
			raw := data(i, 100)
			d := oci.FromBytes(oci.SHA256, raw)
			big := bytes.Repeat([]byte{'5'}, 100_000)
			for n, c := range []*cottage{all["a"], all["b"]} {
				o := blobstore.Origin{Hosted: true, MediaType: "m", Note: append([]byte{'0' + byte(n)}, big...)}
				if err := c.store.Put(t.Context(), d, raw, o); err != nil {
					t.Fatal(err)
				}
			}
			want[d] = Copy{Digest: d, MediaType: "m", Size: 100, Note: append([]byte{'1'}, big...), Nodes: 2}
		}
		v.has(data(100, 100), all["c"]) // no manifest
		got, err := all["c"].CopiesOf(t.Context())
		if err != nil || len(got) != len(want) {
			t.Fatalf("CopiesOf = %d, %v; want %d", len(got), err, len(want))
		}
		for _, c := range got {
			if w := want[c.Digest]; c.MediaType != w.MediaType || c.Size != w.Size || !bytes.Equal(c.Note, w.Note) || c.Nodes != w.Nodes {
				t.Errorf("copy of %s: %q, %d bytes, note of %d, %d nodes", c.Digest, c.MediaType, c.Size, len(c.Note), c.Nodes)
			}
		}
		all["a"].stop()
		v.mu.Lock()
		v.up["a"] = true // nobody has noticed
		v.mu.Unlock()
		if got, err := all["c"].CopiesOf(t.Context()); err == nil || len(got) != len(want) {
			t.Errorf("CopiesOf with a node gone = %d, %v; want all of the others, and an error", len(got), err)
		}
	})
}
