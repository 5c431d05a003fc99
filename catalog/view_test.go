package catalog

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestAViewDoesNotChange(t *testing.T) {
	s := newScript(t)
	m := image("app", "m")
	m.Tags = []string{"1"}
	s.must(m)
	v := s.view()
	before := dump(v.s)
	for i := range 2000 {
		put := image("app", fmt.Sprint("m", i))
		put.Tags = []string{"1", fmt.Sprint("t", i)}
		s.must(put)
		s.must(LinkBlob{"app", blob(fmt.Sprint("b", i)), 1})
	}
	s.must(DeleteManifest{"app", blob("m")})
	if after := dump(v.s); after != before {
		t.Errorf("a view changed from\n%s to\n%.2000s", before, after)
	}
}

// dump is all that is in a state, with what follows from other parts of it.
func dump(s *state) string {
	var b strings.Builder
	line := func(kind string, item any) { fmt.Fprintf(&b, "%s %+v\n", kind, item) }
	fmt.Fprintf(&b, "index %d clock %d\n", s.index, s.clock)
	for x := range s.links.all() {
		line("link", x)
	}
	for x := range s.manifests.all() {
		line("manifest", fmt.Sprintf("%+v tagged %d changed %d", *x.Manifest, x.tagged, x.changed))
	}
	for x := range s.tags.all() {
		line("tag", x)
	}
	for x := range s.tombs.all() {
		line("tomb", x)
	}
	for x := range s.pins.all() {
		line("pin", x)
	}
	for x := range s.leases.all() {
		line("lease", x)
	}
	for x := range s.settings.all() {
		line("setting", x)
	}
	for x := range s.holds.all() {
		line("hold", x)
	}
	for x := range s.places.all() {
		line("place", *x.Manifest)
	}
	for x := range s.graves.all() {
		line("grave", x)
	}
	for x := range s.referrers.all() {
		line("referrer", x)
	}
	for x := range s.expiries.all() {
		line("expiry", x)
	}
	return b.String()
}

// snapshotOf is a state as it goes to disk.
func snapshotOf(t testing.TB, m *machine) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := m.view().WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v; wrote %d bytes", n, err, b.Len())
	}
	return b.Bytes()
}

func restored(t testing.TB, raw []byte) *machine {
	t.Helper()
	m := newMachine()
	if err := m.Restore(io.NopCloser(bytes.NewReader(raw))); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	return m
}
