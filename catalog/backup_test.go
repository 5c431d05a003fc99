package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

// push puts a manifest with one layer and a tag.
func (f *fakeNode) push(repository, tag, text string) error {
	layer := oci.FromBytes(oci.SHA256, []byte("layer of "+text))
	for _, do := range []Action{
		LinkBlob{repository, layer, 7},
		PutManifest{
			Repository: repository, Descriptor: oci.Descriptor{MediaType: "m", Digest: oci.FromBytes(oci.SHA256, []byte(text)), Size: 5},
			Blobs: []oci.Digest{layer}, Tags: []string{tag},
		},
	} {
		if r, err := f.catalog.Apply(context.Background(), Command{Do: do}); errors.Join(err, r.Err) != nil {
			return errors.Join(err, r.Err)
		}
	}
	return nil
}

// reads fails the test unless a tag names that text on every node.
func (n *fakeNetwork) reads(repository, tag, text string) {
	n.t.Helper()
	for _, id := range n.ids() {
		f := n.running(id)
		if f == nil {
			continue
		}
		got, ok, err := f.catalog.Tag(context.Background(), repository, tag, false)
		if want := oci.FromBytes(oci.SHA256, []byte(text)); err != nil || ok != (text != "") || ok && got.Digest != want {
			n.t.Errorf("Tag(%s, %s) on %s = %v, %v, %v; want %q", repository, tag, id, got, ok, err, text)
		}
	}
}

func TestEveryNodeAnswersQuestions(t *testing.T) {
	seeds(t, 5, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(7, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		if err := all[6].push("r", "t", "x"); err != nil {
			t.Fatal(err)
		}
		n.reads("r", "t", "x")
		n.reads("r", "u", "")
		if _, err := all[0].catalog.Apply(t.Context(), Command{Do: LinkBlob{"q", blob("loose"), 3}}); err != nil {
			t.Fatal(err)
		}
		d := oci.FromBytes(oci.SHA256, []byte("x"))
		ctx := t.Context()
		for _, f := range all {
			c := f.catalog
			m, tags, err := c.Manifest(ctx, "r", d, false)
			if err != nil || m.Descriptor.Size != 5 || len(tags) != 1 || tags[0].Name != "t" {
				t.Errorf("Manifest on %s = %+v, %v, %v; want x with tag t", f.id, m, tags, err)
			}
			if _, _, err := c.Manifest(ctx, "q", d, false); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("Manifest of another repository on %s = %v; want %v", f.id, err, oci.ErrNotFound)
			}
			list, known, err := c.Tags(ctx, "r", "", 10, false)
			names, err2 := c.Repositories(ctx, "", 10, false)
			digests, err3 := c.Digests(ctx, oci.Digest{}, 10, false)
			link, linked, err4 := c.Link(ctx, "r", m.Blobs[0], false)
			holds, err5 := c.Holds(ctx, d, false)
			if err := errors.Join(err, err2, err3, err4, err5); err != nil || !known || len(list) != 1 || len(names) != 1 ||
				len(digests) != 3 || !linked || !link.Used || link.Size != 7 || !holds {
				t.Errorf("on %s: %v %v %v %v %v %v %v %v", f.id, err, known, list, names, digests, linked, link, holds)
			}
			layer := m.Blobs[0]
			copies, err := c.Describe(ctx, []oci.Digest{layer, d}, false)
			all, err2 := c.HoldsAll(ctx, []oci.Digest{layer, blob("nobody's"), d}, false)
			unused, next, err3 := c.Unused(ctx, time.Now(), LinkCursor{}, 10)
			index, err4 := c.Index(ctx)
			if err := errors.Join(err, err2, err3, err4); err != nil || len(copies) != 1 || len(copies[d]) != 1 ||
				len(copies[d][0].Tags) != 1 || copies[d][0].Blobs[0] != (CopiedBlob{layer, 7}) || !slices.Equal(all, []bool{true, false, true}) ||
				len(unused) != 1 || unused[0].Digest != blob("loose") || unused[0].Size != 3 || next != nil || index < link.Index {
				t.Errorf("on %s: %v %v %v %v %v %d", f.id, err, copies, all, unused, next, index)
			}
			if _, _, err := c.Tag(ctx, "r", "t", true); err != nil {
				t.Errorf("stale Tag on %s = %v; want none", f.id, err)
			}
		}
	})
}

func TestABackupComesBackAfterAllVotersWereLost(t *testing.T) {
	seeds(t, 20, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(3, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 3)
		for i := range 20 {
			if err := all[i%3].push("r", fmt.Sprint("t", i%5), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		var backup bytes.Buffer
		if err := all[n.intn(3)].catalog.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		if err := all[0].catalog.Restore(t.Context(), bytes.NewReader(backup.Bytes()), false); err == nil {
			t.Error("Restore over a catalog with a quorum = nil; want an error")
		}
		for _, f := range all {
			f.crash()
			f.wipe()
		}
		for _, f := range all[1:] { // two of three found nothing by themselves: one may know better
			f.start()
		}
		time.Sleep(time.Duration(n.intn(1500)) * time.Millisecond)
		broken := bytes.Clone(backup.Bytes())
		broken[n.intn(len(broken))] ^= 1
		if err := all[1].catalog.Restore(t.Context(), bytes.NewReader(broken), true); err == nil {
			t.Error("Restore of a damaged backup = nil; want an error")
		}
		if err := all[1].catalog.Restore(t.Context(), bytes.NewReader(backup.Bytes()), true); err != nil {
			t.Fatal(err)
		}
		all[0].start()
		n.votersAre(60*time.Second, 3)
		for i := range 5 {
			n.reads("r", fmt.Sprint("t", i), fmt.Sprint(15+i))
		}
		if err := all[0].push("r", "new", "new"); err != nil {
			t.Error(err)
		}
		n.reads("r", "new", "new")
	})
}

func TestForceMakesACatalogOfWhatOneVoterHas(t *testing.T) {
	seeds(t, 20, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(3, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 3)
		if err := all[0].push("r", "t", "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, f := range all[1:] {
			f.crash()
			f.wipe()
		}
		for _, f := range all[1:] {
			f.start()
		}
		time.Sleep(time.Minute)
		if s := all[0].catalog.Status(); s.State != NoQuorum {
			t.Errorf("state = %q; want %q", s.State, NoQuorum)
		}
		if err := all[0].catalog.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.votersAre(60*time.Second, 3)
		n.reads("r", "t", "x")
	})
}

// TestWhatIsWrittenAfterARestoreComesAfterWhatWasLost is of writes that the backup lacks and that notes beside copies still
// tell of: were the catalog to be rebuilt from notes later, the new writes have to hold.
func TestWhatIsWrittenAfterARestoreComesAfterWhatWasLost(t *testing.T) {
	seeds(t, 5, func(t *testing.T, n *fakeNetwork) {
		f := n.add("a", "")
		f.start()
		n.until(5*time.Second, "a catalog", func() bool { return f.push("r", "t", "before") == nil })
		var backup bytes.Buffer
		if err := f.catalog.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		notes := func(text string) []Copy {
			d := oci.FromBytes(oci.SHA256, []byte(text))
			described, err := f.catalog.Describe(t.Context(), []oci.Digest{d}, false)
			if err != nil || len(described[d]) != 1 {
				t.Fatalf("Describe(%s) = %v, %v; want one copy", text, described, err)
			}
			return described[d]
		}
		for i := range 3 + n.intn(20) {
			if err := f.push("r", "t", fmt.Sprint("lost ", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.push("r", "t", "lost"); err != nil {
			t.Fatal(err)
		}
		lost := notes("lost")
		if err := f.catalog.Restore(t.Context(), &backup, true); err != nil {
			t.Fatal(err)
		}
		n.reads("r", "t", "before")
		if err := f.push("r", "t", "after"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.catalog.Recover(t.Context(), append(lost, notes("after")...), true); err != nil {
			t.Fatal(err)
		}
		n.reads("r", "t", "after")
	})
}

func TestACatalogIsRebuiltFromCopies(t *testing.T) {
	seeds(t, 10, func(t *testing.T, n *fakeNetwork) {
		digest := func(text string) oci.Digest { return oci.FromBytes(oci.SHA256, []byte(text)) }
		copyOf := func(text string, index uint64, tags ...CopiedTag) Copy {
			return Copy{
				Repository: "r", Descriptor: oci.Descriptor{MediaType: "m", Digest: digest(text), Size: 1}, Index: index, Tags: tags,
				Blobs: []CopiedBlob{{digest("layer of " + text), 3}},
			}
		}
		whole := copyOf("whole", 30, CopiedTag{Name: "all", Index: 31})
		whole.Descriptor.MediaType = oci.MediaTypeOCIIndex
		whole.Blobs = []CopiedBlob{{digest("a"), 1}, {digest("b"), 1}}
		half := copyOf("half", 40, CopiedTag{Name: "half", Index: 41})
		half.Descriptor.MediaType = oci.MediaTypeOCIIndex
		half.Blobs = []CopiedBlob{{digest("a"), 1}, {digest("lost"), 1}}
		copies := []Copy{
			whole, half, copyOf("a", 10, CopiedTag{Name: "latest", Index: 11}), copyOf("b", 20, CopiedTag{Name: "latest", Index: 21}),
			copyOf("a", 10, CopiedTag{Name: "latest", Index: 15}, CopiedTag{Name: "old", Index: 16}), copyOf("b", 20),
		}
		for i := range copies {
			j := i + n.intn(len(copies)-i)
			copies[i], copies[j] = copies[j], copies[i]
		}
		f := n.add("a", "")
		f.start()
		n.until(5*time.Second, "a catalog", func() bool { return f.set("k", "v") == nil })
		got, err := f.catalog.Recover(t.Context(), copies, true)
		if err != nil || got.Manifests != 3 || got.Tags != 3 || len(got.Incomplete) != 1 {
			t.Errorf("Recover = %+v, %v; want 3 manifests, 3 tags, 1 incomplete", got, err)
		}
		n.reads("r", "latest", "b")
		n.reads("r", "old", "a")
		n.reads("r", "all", "whole")
		n.reads("r", "half", "")
		if err := f.push("r", "latest", "c"); err != nil {
			t.Error(err)
		}
		if tag, _, err := f.catalog.Tag(t.Context(), "r", "latest", false); err != nil || tag.Index <= 41 {
			t.Errorf("index of a new tag = %d, %v; want more than all that were recovered", tag.Index, err)
		}
	})
}

func TestOneNodeHoldsALeaseAndLeasesAreSkippedWithoutAQuorum(t *testing.T) {
	seeds(t, 20, func(t *testing.T, n *fakeNetwork) {
		all := n.farmOf(5, 3)
		for _, f := range all {
			f.start()
		}
		n.votersAre(40*time.Second, 5)
		d := manifestOf(1)
		for _, f := range all {
			if holder, err := f.catalog.Lease(t.Context(), d); err != nil || holder != "a" {
				t.Errorf("Lease on %s = %q, %v; want a", f.id, holder, err)
			}
		}
		if err := all[0].catalog.Release(t.Context(), d); err != nil {
			t.Error(err)
		}
		if holder, err := all[1].catalog.Lease(t.Context(), d); err != nil || holder != "b" {
			t.Errorf("Lease = %q, %v; want b", holder, err)
		}
		n.split([]string{"a"}, []string{"b"}, []string{"c"}, []string{"d"}, []string{"e"})
		time.Sleep(3 * time.Second)
		for i := range 3 {
			start := time.Now()
			_, err := all[0].catalog.Lease(t.Context(), d)
			limit := 250 * time.Millisecond
			if i > 0 {
				limit = 0
			}
			if took := time.Since(start); !errors.Is(err, ErrSkipped) || took > limit {
				t.Errorf("Lease without a quorum = %v after %v; want %v within %v", err, took, ErrSkipped, limit)
			}
		}
		n.heal()
		time.Sleep(31 * time.Second)
		if holder, err := all[0].catalog.Lease(t.Context(), manifestOf(2)); err != nil || holder != "a" {
			t.Errorf("Lease afterwards = %q, %v; want a", holder, err)
		}
	})
}
