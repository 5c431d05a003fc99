package catalog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestASettingIsSwappedOnlyWhenNobodyChangedIt(t *testing.T) {
	s := newScript(t)
	refuse := func(why string, ifIndex uint64) {
		t.Helper()
		before := dump(s.view().s)
		r := s.do(SwapSetting{"k", []byte("refused"), ifIndex})
		if !errors.Is(r.Err, ErrChanged) {
			t.Errorf("SwapSetting %s = %v; want ErrChanged", why, r.Err)
		}
		if _, after, _ := strings.Cut(dump(s.view().s), "\n"); !strings.HasSuffix(before, after) {
			t.Errorf("a refused SwapSetting changed the state to\n%s", after)
		}
	}
	refuse("of what is not there", 1)
	first := s.must(SwapSetting{"k", []byte("1"), 0}).Index
	refuse("although it is there", 0)
	second := s.must(SwapSetting{"k", []byte("2"), first}).Index
	refuse("at an old index", first)
	third := s.must(SetSetting{"k", []byte("2")}).Index
	refuse("that was set meanwhile", second)
	if got, ok := s.view().SettingAt("k"); !ok || string(got.Value) != "2" || got.Index != third {
		t.Errorf("SettingAt = %+v, %v; want 2 at %d", got, ok, third)
	}
	s.must(SwapSetting{"k", nil, third})
	refuse("that was taken away", third)
	if got, ok := s.view().SettingAt("k"); ok || got.Index != 0 {
		t.Errorf("SettingAt after it was taken away = %+v; want none at 0", got)
	}
	s.must(SwapSetting{"k", nil, 0}) // there is none, as it says
}

func TestSettingsComeInOrderByTheirPrefix(t *testing.T) {
	s := newScript(t)
	for _, key := range []string{"trust/b", "trust/a/2", "trust", "trust0", "trust/a/1", "trust/", "a", "u"} {
		s.must(SetSetting{key, []byte(key)})
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"trust/", "", []string{"trust/", "trust/a/1", "trust/a/2", "trust/b"}},
		{"trust/a/", "", []string{"trust/a/1", "trust/a/2"}},
		{"trust/", "trust/a", []string{"trust/a/1", "trust/a/2", "trust/b"}},
		{"trust/", "trust/a/1", []string{"trust/a/2", "trust/b"}},
		{"trust/", "trust/b", nil},
		{"trust/", "u", nil},
		{"", "trust/b", []string{"trust0", "u"}},
	} {
		var got []string
		for x := range s.view().Settings(c.prefix, c.after) {
			got = append(got, x.Key)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Settings(%q, %q) = %q; want %q", c.prefix, c.after, got, c.want)
		}
	}
}

// The snapshot in the file was written when settings had no index yet.
func TestASnapshotOfBeforeSettingsHadAnIndexIsRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "snapshot_without_setting_index.golden"))
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for line := range strings.Lines(string(text)) {
		digits, _, _ := strings.Cut(line, "|")
		line, err := hex.DecodeString(strings.Join(strings.Fields(digits)[1:], ""))
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, line...)
	}
	m := restored(t, raw)
	if got, ok := m.view().SettingAt("copies"); !ok || !bytes.Equal(got.Value, []byte{3}) || got.Index != firstIndex {
		t.Errorf("SettingAt = %+v, %v; want 3 at %d", got, ok, firstIndex)
	}
	if got, want := dump(restored(t, snapshotOf(t, m)).view().s), dump(m.view().s); got != want {
		t.Errorf("restored again:\n%s\nwant\n%s", got, want)
	}
}

func TestOneOfManyNodesSwapsASetting(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(7, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		index := uint64(0)
		for round := range 10 {
			won := make([]uint64, len(all))
			var working sync.WaitGroup
			for i, f := range all {
				working.Go(func() {
					r, err := f.catalog.Apply(t.Context(), Command{Do: SwapSetting{"k", []byte(f.id), index}})
					switch {
					case err != nil:
						t.Errorf("Apply on %s = %v", f.id, err)
					case r.Err == nil:
						won[i] = r.Index
					case !errors.Is(r.Err, ErrChanged):
						t.Errorf("SwapSetting on %s = %v; want ErrChanged", f.id, r.Err)
					}
				})
			}
			working.Wait()
			winner := slices.IndexFunc(won, func(i uint64) bool { return i > 0 })
			if winner < 0 || slices.ContainsFunc(won[winner+1:], func(i uint64) bool { return i > 0 }) {
				t.Fatalf("round %d at index %d was won at %v; want one winner", round, index, won)
			}
			index = won[winner]
			for _, f := range all {
				if value, at, err := f.catalog.SettingAt(t.Context(), "k", false); err != nil || at != index || string(value) != all[winner].id {
					t.Errorf("SettingAt on %s = %q, %d, %v; want %s, %d", f.id, value, at, err, all[winner].id, index)
				}
			}
		}
		if value, at, err := all[6].catalog.SettingAt(t.Context(), "none", false); value != nil || at != 0 || err != nil {
			t.Errorf("SettingAt of nothing = %q, %d, %v; want nil, 0, nil", value, at, err)
		}
	})
}

func TestEveryNodeListsSettings(t *testing.T) {
	seeds(t, 3, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(7, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		var want []Setting
		set := func(key string, value []byte) {
			r, err := all[0].catalog.Apply(t.Context(), Command{Do: SwapSetting{key, value, 0}})
			if err := errors.Join(err, r.Err); err != nil {
				t.Fatal(err)
			}
			want = append(want, Setting{key, value, r.Index})
		}
		for i := range 1010 { // more than a page by their number
			set(fmt.Sprintf("list/%05d", i), []byte{1})
		}
		for i := range 20 { // and by their bytes
			set(fmt.Sprintf("list/large/%05d", i), bytes.Repeat([]byte{byte(i)}, maxSettingBytes))
		}
		set("other", []byte{1})
		want = want[:len(want)-1]
		slices.SortFunc(want, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
		time.Sleep(time.Second) // a stale answer may lack what came last
		for _, f := range all {
			for _, stale := range []bool{false, true} {
				got, err := f.catalog.Settings(t.Context(), "list/", stale)
				same := slices.EqualFunc(got, want, func(a, b Setting) bool {
					return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Index == b.Index
				})
				if err != nil || !same {
					t.Errorf("Settings on %s, stale %v: %d, %v; want %d", f.id, stale, len(got), err, len(want))
				}
			}
		}
		if _, err := all[0].catalog.Settings(t.Context(), strings.Repeat("x", maxNameBytes), false); err != nil {
			t.Errorf("Settings of a long prefix: %v; want none", err)
		}
		if r, err := all[0].catalog.Apply(t.Context(), Command{Do: SwapSetting{"other", make([]byte, maxSettingBytes+1), 0}}); !errors.Is(err, oci.ErrTooLarge) {
			t.Errorf("Apply of a large setting = %+v, %v; want ErrTooLarge", r, err)
		}
	})
}
