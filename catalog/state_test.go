package catalog

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/oci"
)

// start is the time of a script's first command.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// A script applies commands one after the other, a second apart unless it is told to wait.
type script struct {
	*machine
	t     testing.TB
	index uint64
	now   time.Time
}

func newScript(t testing.TB) *script { return &script{newMachine(), t, 0, start} }

// do applies a command as raft does.
func (s *script) do(a Action) Result {
	s.t.Helper()
	s.index++
	s.now = s.now.Add(time.Second)
	c := Command{s.now, a}
	if err := c.check(); err != nil {
		s.t.Fatalf("check of %+v: %v", a, err)
	}
	return s.Apply(&raft.Log{Index: s.index, Type: raft.LogCommand, Data: c.marshal()}).(Result)
}

// must applies a command that is not refused.
func (s *script) must(a Action) Result {
	s.t.Helper()
	r := s.do(a)
	if r.Err != nil {
		s.t.Fatalf("%+v: %v", a, r.Err)
	}
	return r
}

func (s *script) wait(d time.Duration) { s.now = s.now.Add(d) }

// blob is the digest of some text.
func blob(text string) oci.Digest { return oci.FromBytes(oci.SHA256, []byte(text)) }

// image is a manifest that lists blobs.
func image(repository, name string, blobs ...oci.Digest) PutManifest {
	return PutManifest{
		Repository: repository,
		Descriptor: oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: blob(name), Size: int64(len(name))},
		Blobs:      blobs,
	}
}

func names(tags []Tag) []string {
	var list []string
	for _, t := range tags {
		list = append(list, t.Name)
	}
	return list
}

func TestAManifestWantsAllThatItLists(t *testing.T) {
	s := newScript(t)
	s.must(LinkBlob{"app", blob("config"), 6})
	s.must(LinkBlob{"other", blob("layer"), 5})
	put := image("app", "m", blob("config"), blob("layer"), blob("layer"), blob("more"))
	put.Tags = []string{"1"}
	r := s.do(put)
	missing, ok := errors.AsType[*MissingError](r.Err)
	if !ok || missing.Repository != "app" || !slices.Equal(missing.Blobs, []oci.Digest{blob("layer"), blob("more")}) {
		t.Errorf("PutManifest = %v; want layer and more missing in app, each once", r.Err)
	}
	if v := s.view(); v.Holds(blob("m")) || len(v.Tags("app", "", 9)) > 0 || len(v.Repositories("", 9)) > 0 {
		t.Error("a refused manifest left something behind")
	}
	s.must(LinkBlob{"app", blob("layer"), 5})
	s.must(LinkBlob{"app", blob("more"), 4})
	s.must(put)
	if tag, ok := s.view().Tag("app", "1"); !ok || tag.Digest != blob("m") || tag.Index != s.index {
		t.Errorf("Tag(app, 1) = %+v, %v; want m at %d", tag, ok, s.index)
	}
}

func TestAnIndexWantsItsManifestsInTheRepository(t *testing.T) {
	s := newScript(t)
	index := image("app", "index", blob("child"))
	s.must(image("elsewhere", "child"))
	if r := s.do(index); r.Err == nil {
		t.Error("an index was taken whose manifest only another repository has")
	}
	s.must(image("app", "child"))
	s.must(index)
}

func TestATagWantsItsManifest(t *testing.T) {
	s := newScript(t)
	s.must(image("other", "m"))
	if r := s.do(PutTag{"app", "1", blob("m")}); !errors.Is(r.Err, oci.ErrNotFound) {
		t.Errorf("PutTag of a manifest of another repository: %v; want ErrNotFound", r.Err)
	}
	for _, gone := range []Action{
		DeleteTag{"app", "1"},
		DeleteManifest{"app", blob("m")},
		UnlinkBlob{Repository: "app", Digest: blob("m")},
		Unpin{"app"},
	} {
		if r := s.do(gone); !errors.Is(r.Err, oci.ErrNotFound) || r.Index != s.index {
			t.Errorf("%T of nothing = %+v; want ErrNotFound at %d", gone, r, s.index)
		}
	}
}

func TestTagsComeInOrderAndInPages(t *testing.T) {
	s := newScript(t)
	put := image("team/app", "m")
	put.Tags = []string{"v2", "v10", "V1", "_x", "latest", "v1", "v1.1", "v1-a", "0"}
	s.must(put)
	other := image("team/app-2", "m")
	other.Tags = []string{"a", "z"}
	s.must(other)
	s.must(image("team", "m"))
	want := []string{"0", "_x", "latest", "V1", "v1", "v1-a", "v1.1", "v10", "v2"}
	if got := names(s.view().Tags("team/app", "", 100)); !slices.Equal(got, want) {
		t.Errorf("Tags = %q; want %q", got, want)
	}
	for n := 1; n <= len(want); n++ {
		var got []string
		for after := ""; ; {
			page := names(s.view().Tags("team/app", after, n))
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("Tags in pages of %d = %q; want %q", n, got, want)
		}
	}
	if got := names(s.view().Tags("team/app", "v1-zzz", 2)); !slices.Equal(got, []string{"v1.1", "v10"}) {
		t.Errorf("Tags after a name that is none = %q; want v1.1 and v10", got)
	}
	if got := s.view().Tags("team/app", "", 0); len(got) != 0 {
		t.Errorf("Tags, 0 of them = %v; want none", got)
	}
}

func TestRepositoriesComeInOrderAndInPages(t *testing.T) {
	s := newScript(t)
	want := []string{"a", "a-b", "a/b", "a/b/c", "ab", "b"}
	for _, i := range []int{3, 0, 5, 2, 4, 1} {
		s.must(image(want[i], "m"))
		s.must(image(want[i], "n"))
	}
	s.must(LinkBlob{"aa", blob("only a blob"), 1})
	var got []string
	for after := ""; ; {
		page := s.view().Repositories(after, 2)
		if len(page) == 0 {
			break
		}
		got, after = append(got, page...), page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("Repositories = %q; want %q", got, want)
	}
	if v := s.view(); !v.Known("aa") || !v.Known("a/b") || v.Known("a/") {
		t.Error("Known does not follow from manifests and blobs")
	}
}

func TestADeletedManifestTakesItsTagsAlong(t *testing.T) {
	s := newScript(t)
	m, n := image("app", "m"), image("app", "n")
	m.Tags, n.Tags = []string{"1", "3"}, []string{"2", "4"}
	s.must(m)
	s.must(n)
	s.must(PutTag{"app", "4", blob("m")})
	s.must(PutTag{"app", "1", blob("n")})
	if got := s.view().TagsOf("app", blob("m")); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("TagsOf(m) = %q; want 3 and 4", got)
	}
	s.must(DeleteManifest{"app", blob("m")})
	v := s.view()
	if got := names(v.Tags("app", "", 9)); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("Tags = %q; want those of n: 1 and 2", got)
	}
	if _, ok := v.Manifest("app", blob("m")); ok || v.Holds(blob("m")) {
		t.Error("the manifest is still there")
	}
	var buried []string
	for tomb := range v.Tombstones() {
		if tomb.Index != s.index || !tomb.Time.Equal(s.now) {
			t.Errorf("tombstone %+v; want index %d and time %v", tomb, s.index, s.now)
		}
		buried = append(buried, tomb.Name)
	}
	if want := []string{"3", "4", blob("m").String()}; !slices.Equal(buried, want) {
		t.Errorf("buried %q; want %q", buried, want)
	}
}

func TestTombstonesStayUntilWhatTheyBuriedComesAgainOrTheyAreOld(t *testing.T) {
	s := newScript(t)
	m := image("app", "m")
	m.Tags = []string{"1", "2"}
	s.must(m)
	s.must(DeleteTag{"app", "1"})
	s.must(DeleteManifest{"app", blob("m")})
	middle := s.now
	s.must(image("app", "m"))
	s.must(PutTag{"app", "1", blob("m")})
	if v := s.view(); buried(v, "app", "1") || buried(v, "app", blob("m").String()) || !buried(v, "app", "2") {
		t.Error("the tombstones are not those of what is away")
	}
	s.wait(time.Hour)
	s.must(DeleteTag{"app", "1"})
	s.must(Forget{middle.Add(time.Second)})
	if v := s.view(); buried(v, "app", "2") || !buried(v, "app", "1") {
		t.Error("Forget did not drop the old tombstone, and it alone")
	}
}

func buried(v View, repository, name string) bool {
	_, ok := v.Buried(repository, name)
	return ok
}

func TestReferrersAreThoseOfTheSubjectInTheRepository(t *testing.T) {
	s := newScript(t)
	refer := func(repository, name, artifactType string) {
		put := image(repository, name)
		put.Subject, put.Descriptor.ArtifactType = blob("subject"), artifactType
		put.Annotations = map[string]string{"name": name}
		s.must(put)
	}
	refer("app", "sbom", "application/spdx")
	refer("app", "signature", "application/sig")
	refer("app", "other sbom", "application/spdx")
	refer("else", "far", "application/spdx")
	for _, c := range []struct {
		artifactType string
		want         int
	}{{"", 3}, {"application/spdx", 2}, {"application/none", 0}} {
		got := s.view().Referrers("app", blob("subject"), c.artifactType)
		if len(got) != c.want || !slices.IsSortedFunc(got, func(a, b *Manifest) int { return compare(a.Descriptor.Digest, b.Descriptor.Digest) }) {
			t.Errorf("Referrers of type %q = %d; want %d in order", c.artifactType, len(got), c.want)
		}
		for _, m := range got {
			if blob(m.Annotations["name"]) != m.Descriptor.Digest {
				t.Errorf("referrer %s has the annotations of %q", m.Descriptor.Digest, m.Annotations["name"])
			}
		}
	}
	s.must(DeleteManifest{"app", blob("sbom")})
	if got := s.view().Referrers("app", blob("subject"), ""); len(got) != 2 {
		t.Errorf("after one was deleted: %d referrers; want 2", len(got))
	}
}

func TestABlobIsHeldAsLongAsAnyRepositoryHasIt(t *testing.T) {
	s := newScript(t)
	s.must(LinkBlob{"a", blob("x"), 1})
	s.must(LinkBlob{"a", blob("x"), 1})
	s.must(LinkBlob{"b", blob("x"), 1})
	s.must(image("c", "x"))
	steps := []Action{
		UnlinkBlob{Repository: "a", Digest: blob("x")},
		UnlinkBlob{Repository: "b", Digest: blob("x")},
		DeleteManifest{"c", blob("x")},
	}
	for _, step := range steps {
		if v := s.view(); !v.Holds(blob("x")) || v.Empty() {
			t.Errorf("before %+v the blob is not held", step)
		}
		s.must(step)
	}
	if v := s.view(); v.Holds(blob("x")) || !v.Empty() || v.Linked("a", blob("x")) {
		t.Error("the blob is held although no repository has it")
	}
}

func TestABlobInUseIsUnlinkedOnlyWithoutTheCondition(t *testing.T) {
	s := newScript(t)
	s.must(LinkBlob{"app", blob("layer"), 5})
	s.must(image("app", "m", blob("layer")))
	careful := UnlinkBlob{Repository: "app", Digest: blob("layer"), IfUnused: true}
	if r := s.do(careful); !errors.Is(r.Err, ErrInUse) {
		t.Errorf("UnlinkBlob = %v; want ErrInUse", r.Err)
	}
	s.must(UnlinkBlob{Repository: "app", Digest: blob("layer")})
	if s.view().Linked("app", blob("layer")) {
		t.Error("the blob is linked still")
	}
	s.must(LinkBlob{"app", blob("layer"), 5})
	if r := s.do(careful); !errors.Is(r.Err, ErrInUse) {
		t.Errorf("UnlinkBlob of a blob that was linked anew = %v; want ErrInUse", r.Err)
	}
	s.must(DeleteManifest{"app", blob("m")})
	s.must(careful)
}

func TestALinkMadeAnewIsNotTakenForTheOldOne(t *testing.T) {
	s := newScript(t)
	s.must(LinkBlob{"app", blob("layer"), 5})
	old, _ := s.view().Link("app", blob("layer"))
	s.must(LinkBlob{"app", blob("layer"), 5})
	u := UnlinkBlob{Repository: "app", Digest: blob("layer"), IfUnused: true, IfIndex: old.Index}
	if r := s.do(u); !errors.Is(r.Err, ErrChanged) {
		t.Errorf("UnlinkBlob = %v; want ErrChanged", r.Err)
	}
	link, _ := s.view().Link("app", blob("layer"))
	u.IfIndex = link.Index
	s.must(u)
}
