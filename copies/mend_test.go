package copies

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestALostNodesBlobsAreCopiedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d", "e")
		var blobs []oci.Digest
		for i := range uint64(60) {
			raw := data(i, 1000)
			d := oci.FromBytes(oci.SHA256, raw)
			blobs = append(blobs, v.has(raw, v.places(all, d, 3)...))
		}
		time.Sleep(5 * time.Minute)
		if n, _ := v.callsOf("Offer"); n != 0 {
			t.Errorf("%d offers in a farm in which nothing is missing; want 0", n)
		}
		all["b"].stop()
		delete(all, "b")
		time.Sleep(10 * time.Second)
		if n := belowCopies(all); n == 0 {
			t.Error("no blob is below its copies while a node is down")
		}
		v.ring("a", "c", "d", "e")
		time.Sleep(30 * time.Second)
		for _, d := range blobs {
			if got, want := holders(all, d), ids(v.places(all, d, 3)); !slices.Equal(got, want) {
				t.Errorf("%s is on %v; want %v", d, got, want)
			}
		}
		time.Sleep(3 * time.Minute)
		if n := belowCopies(all); n != 0 {
			t.Errorf("%d blobs are below their copies in the end; want 0", n)
		}
	})
}

func belowCopies(all map[string]*cottage) (n int) {
	for _, c := range all {
		n += c.Stats().BelowCopies
	}
	return n
}

func TestBlobsMoveWithTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d")
		var blobs []oci.Digest
		for i := range uint64(60) {
			raw := data(i, 1000)
			blobs = append(blobs, v.has(raw, v.places(all, oci.FromBytes(oci.SHA256, raw), 3)...))
		}
		for _, id := range []string{"e", "f", "g"} {
			all[id] = v.open(id, t.TempDir())
			all[id].start()
		}
		v.ring("a", "b", "c", "d", "e", "f", "g")
		time.Sleep(6 * time.Minute)
		for _, d := range blobs {
			if got, want := holders(all, d), ids(v.places(all, d, 3)); !slices.Equal(got, want) {
				t.Errorf("%s is on %v; want %v", d, got, want)
			}
		}
	})
}

func TestANodeThatComesBackIsBroughtUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d")
		var blobs []oci.Digest
		all["b"].stop()
		for i := range uint64(40) { // pushed while b is down: another one stands in
			raw := data(i, 1000)
			d := oci.FromBytes(oci.SHA256, raw)
			for _, n := range all["a"].view.Places(d, 3, true) {
				v.has(raw, all[n.ID])
			}
			blobs = append(blobs, d)
		}
		time.Sleep(4 * time.Minute)
		for _, d := range blobs {
			if n := len(holders(map[string]*cottage{"a": all["a"], "c": all["c"], "d": all["d"]}, d)); n != 3 {
				t.Errorf("%s is on %d nodes while b is down; want 3", d, n)
			}
		}
		all["b"] = all["b"].again()
		time.Sleep(4 * time.Minute)
		for _, d := range blobs {
			if got, want := holders(all, d), ids(v.places(all, d, 3)); !slices.Equal(got, want) {
				t.Errorf("%s is on %v; want %v", d, got, want)
			}
		}
	})
}

// compareNow has a node compare with all others at its next look, so that it knows of all of them at once.
func (c *cottage) compareNow() {
	c.back.mu.Lock()
	defer c.back.mu.Unlock()
	for _, p := range c.back.peers {
		p.next = time.Now()
	}
}

// hush keeps a node from comparing for a while.
func (c *cottage) hush() {
	c.back.mu.Lock()
	defer c.back.mu.Unlock()
	for _, p := range c.back.peers {
		p.next = time.Now().Add(time.Hour)
	}
}

func TestTheMostEndangeredGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, func(c *Config) { c.RepairRate = 200_000 })
		all := v.build("a", "b", "c")
		for i := range uint64(30) { // something in every partition, so that all know each other
			v.has(data(1000+i, 10), all["a"], all["b"], all["c"])
		}
		time.Sleep(2 * time.Minute)
		for _, c := range all {
			c.hush()
		}
		endangered := make(map[string]bool)
		for i := range uint64(20) {
			if raw := data(i, 100_000); i%2 == 0 {
				v.has(raw, all["a"], all["b"])
			} else {
				endangered[v.has(raw, all["a"]).String()] = true
			}
		}
		time.Sleep(2 * time.Second)
		all["a"].compareNow()
		time.Sleep(4 * time.Minute) // where b is to send what both have, a waits before it does
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.stored) != 30 {
			t.Errorf("%d copies were made; want 30", len(v.stored))
		}
		for i, s := range v.stored {
			if first := i < 20; endangered[s[2:]] != first {
				t.Errorf("copy %d, %s, of a blob on one node alone: %v; want those first", i, s, endangered[s[2:]])
			}
		}
	})
}

func TestRepairKeepsToItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, total = 1 << 20, 40 << 20
		v := newVillage(t, func(c *Config) { c.RepairRate = rate })
		all := v.build("a", "b")
		v.mu.Lock()
		begin := time.Now()
		v.mu.Unlock()
		for i := range uint64(20) {
			v.has(data(i, total/20), all["a"])
		}
		for all["b"].Stats().Received < 20 {
			if s := all["a"].Stats(); s.BelowCopies == 0 && s.Repaired == 0 && time.Since(begin) > soon+2*time.Second {
				t.Fatal("no blob is below its copies while they are sent")
			}
			time.Sleep(time.Second)
			if time.Since(begin) > 2*total/rate*time.Second {
				t.Fatalf("%d of 20 blobs after %v", all["b"].Stats().Received, time.Since(begin))
			}
		}
		if took := time.Since(begin); took < (total/rate-2)*time.Second {
			t.Errorf("%d bytes were sent in %v; want at least %d seconds", total, took, total/rate-2)
		}
		time.Sleep(2 * time.Second)
		if s := all["a"].Stats(); s.Repaired != 20 || s.RepairedBytes != total || s.Repairing != 0 {
			t.Errorf("Stats() = %+v; want 20 repaired, %d bytes", s, total)
		}
	})
}

func TestNothingIsSentWithoutARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, func(c *Config) { c.idle = true })
		all := v.build("a", "b")
		v.has(data(1, 100), all["a"])
		time.Sleep(5 * time.Minute)
		if s := all["b"].Stats(); s.Hosted != 0 || all["a"].Stats().BelowCopies != 1 {
			t.Errorf("Stats() = %+v, %+v; want nothing sent, and that told", all["a"].Stats(), s)
		}
	})
}

func TestEachMissingCopyIsSentByOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c")
		for i := range uint64(50) {
			v.has(data(i, 10_000), all["a"], all["b"])
		}
		time.Sleep(10 * time.Minute)
		if s := all["c"].Stats(); s.Received != 50 || s.Refused != 0 {
			t.Errorf("Stats() = %+v; want 50 received, none refused", s)
		}
		if sent := all["a"].Stats().Repaired + all["b"].Stats().Repaired; sent != 50 {
			t.Errorf("%d copies sent; want 50", sent)
		}
	})
}

func TestAQuietFarmSaysLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c")
		for i := range uint64(200) {
			v.has(data(i, 100), all["a"], all["b"], all["c"])
		}
		time.Sleep(5 * time.Minute)
		n, bytes := v.callsOf("Compare")
		time.Sleep(100 * time.Minute)
		n2, bytes2 := v.callsOf("Compare")
		if n, bytes = n2-n, bytes2-bytes; n < 540 || n > 670 || bytes/n > 64 {
			t.Errorf("%d messages of %d bytes in 100 minutes; want about 600, each below 64 bytes", n, bytes/n)
		}
		if n, _ := v.callsOf("Offer"); n != 0 {
			t.Errorf("%d offers; want 0", n)
		}
	})
}

func TestALargeFarmIsComparedWithBitByBit(t *testing.T) {
	k := &Keeper{cfg: Default("a")}
	var calls float64
	for _, peers := range []int{2, 16, 100, 1000} {
		var all time.Duration
		for range 1000 {
			all += k.interval(peers)
		}
		calls = float64(peers) * float64(time.Hour) / (float64(all) / 1000)
		if calls > 17*60 {
			t.Errorf("%.0f comparisons an hour with %d peers; want at most 16 a minute", calls, peers)
		}
	}
}

func TestNodesOfDifferentRingsCompareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c")
		all["b"].view.see("b", "c")
		v.has(data(1, 100), all["a"])
		time.Sleep(10 * time.Minute)
		if all["b"].Stats().Hosted != 0 || all["c"].Stats().Hosted != 1 {
			t.Errorf("b has %d blobs, c %d; want 0 on the one that goes by another ring", all["b"].Stats().Hosted, all["c"].Stats().Hosted)
		}
		all["b"].view.see("a", "b", "c")
		time.Sleep(time.Minute)
		if all["b"].Stats().Hosted != 1 {
			t.Error("b has not the blob once the rings agree")
		}
	})
}

func TestGarbageIsNotCopiedAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c")
		time.Sleep(time.Hour)
		old := v.has(data(1, 100), all["a"])
		v.mu.Lock()
		v.unnamed[old] = true
		v.mu.Unlock()
		for _, c := range all {
			c.view.see("a") // nothing is mended
		}
		time.Sleep(2 * time.Hour)
		for _, c := range all {
			c.view.see("a", "b", "c")
		}
		kept := v.has(data(2, 100), all["a"])
		young := v.has(data(3, 100), all["a"])
		v.mu.Lock()
		v.unnamed[young] = true
		v.mu.Unlock()
		time.Sleep(5 * time.Minute)
		for d, want := range map[oci.Digest]int{old: 1, kept: 3, young: 3} {
			if got := holders(all, d); len(got) != want {
				t.Errorf("%s is on %v; want %d nodes", d, got, want)
			}
		}
		if n := belowCopies(all); n != 0 {
			t.Errorf("%d blobs below their copies; want 0", n)
		}
		v.mu.Lock()
		v.silent = true
		v.mu.Unlock()
		time.Sleep(20 * time.Minute)
		if got := holders(all, old); len(got) != 3 {
			t.Errorf("%s is on %v while the catalog is silent; want 3 nodes", old, got)
		}
	})
}

func TestWhatEndangeredBlobsNeedStandsInForLostNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d", "e")
		raw := data(1, 1000)
		d := oci.FromBytes(oci.SHA256, raw)
		places := v.places(all, d, 3)
		v.has(raw, places...)
		time.Sleep(2 * time.Minute)
		places[0].stop()
		delete(all, places[0].id)
		time.Sleep(5 * time.Minute)
		if got := holders(all, d); len(got) != 2 {
			t.Errorf("with one of three places down, %s is on %v; want it where it was", d, got)
		}
		places[1].stop()
		delete(all, places[1].id)
		time.Sleep(5 * time.Minute)
		if got := holders(all, d); len(got) != 3 {
			t.Errorf("with two of three places down for minutes, %s is on %v; want 3 nodes", d, got)
		}
	})
}
