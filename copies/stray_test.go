package copies

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// strayed are nodes of which those that are no places of the blob are the only ones that have it.
func strayed(v *village, all map[string]*cottage, raw []byte) (d oci.Digest, places, strays []*cottage) {
	d = oci.FromBytes(oci.SHA256, raw)
	places = v.places(all, d, 3)
	for _, c := range all {
		if !slices.Contains(places, c) {
			strays = append(strays, c)
		}
	}
	v.has(raw, strays...)
	return d, places, strays
}

func TestACopyThatBelongsElsewhereIsUnmarkedOnceItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d", "e")
		d, places, strays := strayed(v, all, data(1, 1000))
		time.Sleep(2 * time.Second)
		if n := strays[0].Stats().Strays; n != 1 {
			t.Errorf("Strays = %d; want 1", n)
		}
		time.Sleep(4 * time.Minute)
		if n := strays[0].Stats().Strays; n != 0 {
			t.Errorf("Strays = %d in the end; want 0", n)
		}
		if got := holders(all, d); !slices.Equal(got, ids(places)) {
			t.Errorf("it is on %v; want %v", got, ids(places))
		}
		if _, err := strays[0].store.Stat(d); err != nil {
			t.Errorf("Stat = %v; want it cached still", err)
		}
	})
}

func TestACopyStaysMarkedAsLongAsAPlaceDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d", "e")
		d, places, strays := strayed(v, all, data(1, 1000))
		v.mu.Lock()
		door := v.doors[places[2].id]
		delete(v.doors, places[2].id) // it is up, as far as anybody knows
		v.mu.Unlock()
		time.Sleep(20 * time.Minute)
		if got := len(holders(all, d)); got != 4 {
			t.Errorf("it is on %d nodes; want 4", got)
		}
		v.mu.Lock()
		v.doors[places[2].id] = door
		v.mu.Unlock()
		time.Sleep(6 * time.Minute)
		if got := holders(all, d); !slices.Equal(got, ids(places)) || strays[0].hostsNow(d) {
			t.Errorf("it is on %v; want %v", got, ids(places))
		}
	})
}

// What a place had when it was compared with it may have lost since.
func TestACopyIsUnmarkedOnlyOnAFreshPromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b", "c", "d")
		raw := data(1, 1000)
		d := oci.FromBytes(oci.SHA256, raw)
		places := v.places(all, d, 3)
		v.has(raw, all["a"], all["b"], all["c"], all["d"])
		var stray *cottage
		for _, c := range all {
			if !slices.Contains(places, c) {
				stray = c
			}
		}
		time.Sleep(30 * time.Second) // the stray has compared, and has run for too short a time
		stray.hush()
		for _, c := range places {
			if err := c.store.Delete(d); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		if !stray.hostsNow(d) {
			t.Error("the last copy was unmarked")
		}
		stray.compareNow()
		time.Sleep(4 * time.Minute)
		if got := holders(all, d); !slices.Equal(got, ids(places)) {
			t.Errorf("it is on %v; want %v", got, ids(places))
		}
	})
}

// Two nodes that each rely on the other keeping a blob must not both let it go: who has promised keeps it for a while.
func TestAPromiseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVillage(t, nil)
		all := v.build("a", "b")
		d := v.has(data(1, 1000), all["a"])
		time.Sleep(time.Hour)
		have, err := all["b"].offerTo(t.Context(), Node{ID: "a", Address: "a"}, []oci.Digest{d})
		if err != nil || !have[d] {
			t.Fatalf("offer = %v, %v; want it there", have, err)
		}
		all["a"].unmark(d)
		if !all["a"].hostsNow(d) {
			t.Error("unmarked right after a promise")
		}
		time.Sleep(all["a"].promise() + time.Second)
		all["a"].unmark(d)
		if all["a"].hostsNow(d) {
			t.Error("not unmarked a while after the promise")
		}
	})
}
