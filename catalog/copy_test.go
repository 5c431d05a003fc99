package catalog

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// copyAt is a copy of a manifest in app with claims.
func copyAt(name string, index uint64, tags ...CopiedTag) Copy {
	return Copy{
		Repository: "app", Descriptor: oci.Descriptor{MediaType: "m", Digest: blob(name), Size: 1}, Index: index,
		Blobs: []CopiedBlob{{blob("layer of " + name), 3}}, Tags: tags,
	}
}

func claim(name string, index uint64) CopiedTag { return CopiedTag{Name: name, Index: index} }

func goneTag(name string, index uint64) CopiedTag {
	return CopiedTag{Name: name, Index: index, Gone: true}
}

func baseTag(name string, index uint64) CopiedTag {
	return CopiedTag{Name: name, Index: index, Base: true}
}

func asOf(c Copy, index uint64) Copy {
	c.AsOf = index
	return c
}

func goneCopy(name string, index uint64, tags ...CopiedTag) Copy {
	return Copy{Repository: "app", Descriptor: oci.Descriptor{Digest: blob(name)}, Index: index, Gone: true, Tags: tags}
}

func TestTheLatestClaimIsMerged(t *testing.T) {
	for _, c := range []struct {
		name       string
		old, later Copy
		want       []CopiedTag
	}{
		{"later index", copyAt("m", 1, claim("t", 5)), copyAt("m", 1, claim("t", 7)), []CopiedTag{claim("t", 7)}},
		{"other tags stay", copyAt("m", 1, claim("t", 5)), copyAt("m", 1, claim("u", 7)), []CopiedTag{claim("t", 5), claim("u", 7)}},
		{"deleted later", copyAt("m", 1, claim("t", 5)), copyAt("m", 1, goneTag("t", 7)), []CopiedTag{goneTag("t", 7)}},
		{"set again", copyAt("m", 1, claim("t", 9)), copyAt("m", 1, goneTag("t", 7)), []CopiedTag{claim("t", 9)}},
		{"begun after", copyAt("m", 1, claim("t", 5)), copyAt("m", 1, baseTag("t", 5)), []CopiedTag{baseTag("t", 5)}},
		{"confirmed", copyAt("m", 1, baseTag("t", 5)), copyAt("m", 1, claim("t", 6)), []CopiedTag{claim("t", 6)}},
		{"moved away", copyAt("m", 1, claim("t", 5), claim("u", 9)), asOf(copyAt("m", 1), 8), []CopiedTag{claim("u", 9)}},
		{"may yet come", copyAt("m", 1, baseTag("t", 5)), asOf(copyAt("m", 1), 8), []CopiedTag{baseTag("t", 5)}},
		{"both whole", asOf(copyAt("m", 1, claim("t", 5)), 8), asOf(copyAt("m", 1, claim("t", 5)), 8), []CopiedTag{claim("t", 5)}},
	} {
		for _, got := range [][]Copy{MergeCopies([]Copy{c.old}, []Copy{c.later}), MergeCopies([]Copy{c.later}, []Copy{c.old})} {
			if len(got) != 1 || !slices.Equal(got[0].Tags, c.want) {
				t.Errorf("%s: MergeCopies = %+v; want tags %+v", c.name, got, c.want)
			}
		}
	}
	got := MergeCopies([]Copy{goneCopy("m", 7)}, []Copy{copyAt("m", 3)})
	if len(got) != 1 || !got[0].Gone || got[0].Index != 7 || !got[0].described() {
		t.Errorf("MergeCopies of a deletion and what it deleted = %+v; want it gone at 7", got)
	}
	if got = MergeCopies([]Copy{goneCopy("m", 7)}, []Copy{copyAt("m", 7)}); got[0].Gone {
		t.Errorf("MergeCopies of a deletion and a put that began then = %+v; want it there", got)
	}
}

// randomCopies are claims as they may lie about.
func randomCopies(r *rand.Rand, n int) []Copy {
	var copies []Copy
	for range n {
		c := copyAt(fmt.Sprint("m", r.IntN(3)), r.Uint64N(20))
		if r.IntN(4) == 0 {
			c.Gone = true
		}
		if r.IntN(2) == 0 {
			c.AsOf = max(c.Index, r.Uint64N(20))
		}
		c.Repository = fmt.Sprint("app", r.IntN(2))
		for i := range r.IntN(4) {
			c.Tags = append(c.Tags, CopiedTag{fmt.Sprint("t", i), r.Uint64N(20), r.IntN(4) == 0, r.IntN(4) == 0})
		}
		copies = append(copies, c)
	}
	return copies
}

func TestMergingGivesTheSameInAnyOrderAndAgain(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := randomCopies(r, 1+r.IntN(4)), randomCopies(r, r.IntN(4))
		before := fmt.Sprint(a, b)
		ab, ba := MergeCopies(a, b), MergeCopies(b, a)
		if fmt.Sprint(a, b) != before {
			t.Fatalf("seed %d: MergeCopies changed what it was given", seed)
		}
		if !reflect.DeepEqual(ab, ba) {
			t.Errorf("seed %d: MergeCopies(a, b) = %+v; of (b, a) %+v", seed, ab, ba)
		}
		if again := MergeCopies(ab, b); !reflect.DeepEqual(again, ab) {
			t.Errorf("seed %d: merged again %+v; want %+v", seed, again, ab)
		}
	}
}

func TestNotesSurviveARoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		copies := randomCopies(r, r.IntN(6))
		if len(copies) > 0 {
			copies[0].Subject, copies[0].Annotations = oci.FromBytes(oci.SHA512, nil), map[string]string{"a": "b"}
		}
		note := EncodeCopies(copies)
		got, err := DecodeCopies(note)
		if want := MergeCopies(copies, nil); err != nil || !(len(got) == 0 && len(want) == 0 || reflect.DeepEqual(got, want)) {
			t.Errorf("seed %d: DecodeCopies = %+v, %v; want %+v", seed, got, err, want)
		}
		slices.Reverse(copies)
		if !slices.Equal(EncodeCopies(copies), note) {
			t.Errorf("seed %d: another order gives another note", seed)
		}
	}
}

func TestALargeNoteLacksWhatIsOldest(t *testing.T) {
	var many []Copy
	for i := range 40_000 {
		c := copyAt("m", uint64(i+1), claim("t", uint64(i+1)))
		c.Repository = fmt.Sprintf("team-%d/service-with-a-name-%d", i, i)
		many = append(many, c)
	}
	one := copyAt("m", 1)
	for i := range 30_000 {
		one.Tags = append(one.Tags, claim(fmt.Sprintf("a-tag-with-a-name-that-is-not-short-%d", i), uint64(i+1)))
	}
	for _, copies := range [][]Copy{many, {one}} {
		note := EncodeCopies(copies)
		got, err := DecodeCopies(note)
		if err != nil || len(note) > MaxNote || len(note) < MaxNote/4 {
			t.Fatalf("EncodeCopies gives %d bytes, %v; want at most %d", len(note), err, MaxNote)
		}
		last := uint64(0)
		for _, c := range got {
			last = max(last, c.latest())
		}
		if last != uint64(max(len(copies), len(copies[0].Tags))) {
			t.Errorf("the latest that a large note has is %d", last)
		}
	}
}

func FuzzDecodeCopies(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		f.Add(EncodeCopies(randomCopies(r, 5)))
	}
	f.Fuzz(func(t *testing.T, note []byte) {
		copies, err := DecodeCopies(note)
		if err != nil {
			return
		}
		again := EncodeCopies(copies)
		got, err := DecodeCopies(again)
		if err != nil || len(again) < MaxNote/2 && !reflect.DeepEqual(got, copies) && len(copies) > 0 {
			t.Errorf("%#v is read again as %#v, %v", copies, got, err)
		}
		_, _ = rebuild(copies, time.Now())
	})
}

func TestWhatIsRebuiltIsTheLatestOfAllThatCopiesSay(t *testing.T) {
	for _, c := range []struct {
		name   string
		copies []Copy
		want   map[string]string // tag -> manifest
	}{
		{"moved", []Copy{copyAt("a", 1, claim("t", 2)), copyAt("b", 3, claim("t", 4))}, map[string]string{"t": "b"}},
		{"deleted after it moved", []Copy{copyAt("a", 1, claim("t", 2)), copyAt("b", 3, goneTag("t", 5))}, map[string]string{"t": ""}},
		{"set after it was deleted", []Copy{copyAt("a", 1, claim("t", 6)), copyAt("b", 3, goneTag("t", 5))}, map[string]string{"t": "a"}},
		{"begun at an index", []Copy{copyAt("a", 1, claim("t", 4)), copyAt("b", 3, baseTag("t", 4))}, map[string]string{"t": "b"}},
		{"begun before a later one", []Copy{copyAt("a", 1, claim("t", 5)), copyAt("b", 3, baseTag("t", 4))}, map[string]string{"t": "a"}},
		{"a manifest deleted", []Copy{copyAt("a", 1, claim("t", 4)), goneCopy("a", 5)}, map[string]string{"t": ""}},
		{
			"a manifest deleted, the tag moved before",
			[]Copy{copyAt("a", 1, claim("t", 4)), copyAt("b", 3, claim("t", 5)), goneCopy("a", 6)},
			map[string]string{"t": "b"},
		},
		{"put again", []Copy{copyAt("a", 7, claim("t", 7)), goneCopy("a", 5)}, map[string]string{"t": "a"}},
		{"put again, as a tag tells", []Copy{copyAt("a", 1, claim("t", 9)), goneCopy("a", 5)}, map[string]string{"t": "a"}},
		{"a holder was away", []Copy{copyAt("a", 1, claim("t", 2)), asOf(copyAt("a", 1, claim("u", 3)), 4)}, map[string]string{"t": "", "u": "a"}},
	} {
		s, _ := rebuild(c.copies, start)
		for tag, want := range c.want {
			got, ok := View{s}.Tag("app", tag)
			if ok != (want != "") || ok && got.Digest != blob(want) {
				t.Errorf("%s: tag %s = %v, %v; want %q", c.name, tag, got, ok, want)
			}
		}
		m := newMachine()
		m.publish(s)
		if got, want := dump(restored(t, snapshotOf(t, m)).view().s), dump(s); got != want {
			t.Errorf("%s: restored:\n%s\nwant\n%s", c.name, got, want)
		}
		// What was rebuilt is described so that older claims count no more.
		for _, old := range c.copies {
			for _, now := range MergeCopies([]Copy{old}, View{s}.Copies(old.Descriptor.Digest)) {
				for _, tag := range now.Tags {
					if at, ok := (View{s}).Tag("app", tag.Name); now.claims(tag) && !tag.Base && (!ok || at.Digest != old.Descriptor.Digest) {
						t.Errorf("%s: an old copy still claims %s: %+v", c.name, tag.Name, now)
					}
				}
			}
		}
	}
}

func TestAViewDescribesManifestsWithTheirTagsAndDeletions(t *testing.T) {
	s := newScript(t)
	for _, repository := range []string{"app", "other", "third"} {
		s.must(LinkBlob{repository, blob("layer"), 7})
		put := image(repository, "m", blob("layer"))
		put.Tags = []string{"1", "2"}
		s.must(put)
	}
	put := s.index
	s.must(image("app", "n"))
	s.must(PutTag{"app", "1", blob("n")})
	moved := s.index
	s.must(DeleteManifest{"other", blob("m")})
	gone := s.index
	got := s.view().Copies(blob("m"))
	want := []Copy{
		{Repository: "app", Index: 2, AsOf: moved, Tags: []CopiedTag{claim("2", 2)}},
		{Repository: "other", Index: gone, AsOf: gone, Gone: true},
		{Repository: "third", Index: put, AsOf: put, Tags: []CopiedTag{claim("1", put), claim("2", put)}},
	}
	for i := range want {
		want[i].Descriptor = image("app", "m").Descriptor
		want[i].Blobs = []CopiedBlob{{blob("layer"), 7}}
		if want[i].Gone {
			want[i].Descriptor, want[i].Blobs = oci.Descriptor{Digest: blob("m")}, nil
		}
	}
	if got = MergeCopies(got, nil); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Copies = %+v\nwant %+v", got, want)
	}
	again := restored(t, snapshotOf(t, s.machine)).view().Copies(blob("m"))
	if fmt.Sprint(MergeCopies(again, nil)) != fmt.Sprint(want) {
		t.Errorf("Copies after a restart = %+v\nwant %+v", again, want)
	}
	s.must(LinkBlob{"other", blob("layer"), 7})
	s.must(image("other", "m", blob("layer")))
	if got := s.view().Copies(blob("m")); len(got) != 3 || slices.ContainsFunc(got, func(c Copy) bool { return c.Gone }) {
		t.Errorf("Copies of what was put again = %+v; want none gone", got)
	}
	if got := s.view().Copies(blob("layer")); len(got) != 0 {
		t.Errorf("Copies of a layer = %+v; want none", got)
	}
}

func TestUnusedLinksComeInPages(t *testing.T) {
	s := newScript(t)
	for i := range 30 {
		s.must(LinkBlob{fmt.Sprint("app", i%3), blob(fmt.Sprint("b", i)), int64(i)})
	}
	s.must(image("app0", "m", blob("b0"), blob("b3")))
	limit := s.now
	s.must(LinkBlob{"app0", blob("b6"), 6}) // made anew
	got := map[oci.Digest]bool{}
	q := &catalogpb.Question{Kind: catalogpb.Question_KIND_UNUSED, Before: toNanos(limit), Count: 4}
	for pages := 0; ; pages++ {
		a, err := answerQuestion(s.view(), q)
		if err != nil || pages > 30 {
			t.Fatal(err, pages)
		}
		for _, l := range a.GetLinks() {
			d := oci.MustDigest(l.GetDigest())
			if got[d] {
				t.Errorf("%s comes twice", d)
			}
			got[d] = true
		}
		if a.GetNext() == nil {
			break
		}
		q.Repository, q.Digest = a.GetNext().GetRepository(), a.GetNext().GetDigest()
	}
	if len(got) != 27 || got[blob("b0")] || got[blob("b3")] || got[blob("b6")] {
		t.Errorf("%d links are unused; want 27", len(got))
	}
}
