package catalog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/oci"
)

// A generator makes commands over few names, so that they meet.
type generator struct {
	*rand.Rand
	now time.Time
}

func (g *generator) repository() string { return fmt.Sprint("team/app", g.IntN(4)) }
func (g *generator) tag() string        { return fmt.Sprint("v", g.IntN(6)) }
func (g *generator) node() string       { return fmt.Sprint("node", g.IntN(3)) }

func (g *generator) digest() oci.Digest {
	algorithm := oci.SHA256
	if g.IntN(8) == 0 {
		algorithm = oci.SHA512
	}
	return oci.FromBytes(algorithm, []byte{byte(g.IntN(12))})
}

func (g *generator) manifest() PutManifest {
	p := PutManifest{Repository: g.repository()}
	p.Descriptor = oci.Descriptor{MediaType: oci.ManifestTypes()[g.IntN(4)], Digest: g.digest(), Size: g.Int64N(1000)}
	for range g.IntN(4) {
		p.Blobs = append(p.Blobs, g.digest())
	}
	for range g.IntN(3) {
		p.Tags = append(p.Tags, g.tag())
	}
	if g.IntN(3) == 0 {
		p.Subject, p.Descriptor.ArtifactType = g.digest(), fmt.Sprint("type/", g.IntN(2))
	}
	if g.IntN(2) == 0 {
		p.Annotations = map[string]string{"a": fmt.Sprint(g.IntN(9)), "b": "c", "d": ""}
	}
	return p
}

func (g *generator) action() Action {
	switch g.IntN(16) {
	case 0, 1, 2:
		return g.manifest()
	case 3, 4, 5, 6:
		return LinkBlob{g.repository(), g.digest(), g.Int64N(1 << 40)}
	case 7:
		return UnlinkBlob{g.repository(), g.digest(), g.IntN(2) == 0, uint64(g.IntN(2) * g.IntN(300))}
	case 8, 9:
		return PutTag{g.repository(), g.tag(), g.digest()}
	case 10:
		return DeleteTag{g.repository(), g.tag()}
	case 11:
		return DeleteManifest{g.repository(), g.digest()}
	case 12:
		return PutPin{g.tag(), g.digest(), g.until()}
	case 13:
		return TakeLease{g.digest(), g.node(), time.Duration(1 + g.Int64N(int64(20*time.Second)))}
	case 14:
		return []Action{ReleaseLease{g.digest(), g.node()}, Unpin{g.tag()}}[g.IntN(2)]
	}
	return []Action{
		SetSetting{g.tag(), make([]byte, g.IntN(3))},
		SwapSetting{g.tag(), make([]byte, g.IntN(3)), uint64(g.IntN(2) * g.IntN(300))},
		Forget{g.now.Add(-time.Duration(g.IntN(60)) * time.Second)},
	}[g.IntN(3)]
}

func (g *generator) until() time.Time {
	if g.IntN(3) == 0 {
		return time.Time{}
	}
	return g.now.Add(time.Duration(g.IntN(60)) * time.Second)
}

// log makes a log as raft has it: commands, some changes of voters among them, indexes missing where raft keeps entries
// of its own, and a clock that at times steps back.
func (g *generator) log(n int) []*raft.Log {
	var entries []*raft.Log
	index := uint64(0)
	for range n {
		index += 1 + uint64(g.IntN(10)/9)
		g.now = g.now.Add(time.Duration(g.IntN(4000)-500) * time.Millisecond)
		entry := &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: Command{g.now, g.action()}.marshal()}
		if g.IntN(40) == 0 {
			entry.Type, entry.Data = raft.LogConfiguration, []byte("voters")
		}
		entries = append(entries, entry)
	}
	return entries
}

func newGenerator(seed uint64) *generator {
	return &generator{rand.New(rand.NewPCG(seed, 1)), start}
}

func TestALogComesToTheSameWithASnapshotBetween(t *testing.T) {
	for seed := range uint64(100) {
		g := newGenerator(seed)
		entries := g.log(300)
		whole, batched := newMachine(), newMachine()
		cuts := map[int]*machine{0: newMachine()}
		var results []any
		for i, entry := range entries {
			results = append(results, whole.Apply(entry))
			if g.IntN(60) == 0 {
				cuts[i+1] = restored(t, snapshotOf(t, whole))
				if got, want := dump(cuts[i+1].view().s), dump(whole.view().s); got != want {
					t.Fatalf("seed %d: restored at %d:\n%s\nwant\n%s", seed, i+1, got, want)
				}
			}
		}
		want, raw := dump(whole.view().s), snapshotOf(t, whole)
		for cut, m := range cuts {
			for i, entry := range entries[cut:] {
				if got, want := fmt.Sprint(m.Apply(entry)), fmt.Sprint(results[cut+i]); got != want {
					t.Fatalf("seed %d: snapshot at %d: result of %d is %s; want %s", seed, cut, cut+i, got, want)
				}
			}
			if got := dump(m.view().s); got != want {
				t.Fatalf("seed %d: snapshot at %d and the rest come to\n%s\nwant\n%s", seed, cut, got, want)
			}
			if !bytes.Equal(snapshotOf(t, m), raw) {
				t.Fatalf("seed %d: snapshot at %d and the rest make another snapshot", seed, cut)
			}
		}
		for left := entries; len(left) > 0; {
			n := min(len(left), 1+g.IntN(20))
			batched.ApplyBatch(left[:n])
			left = left[n:]
		}
		if got := dump(batched.view().s); got != want {
			t.Fatalf("seed %d: in batches the log comes to\n%s\nwant\n%s", seed, got, want)
		}
	}
}

func TestWhatFollowsFromTheStateIsRight(t *testing.T) {
	for seed := range uint64(50) {
		m := newMachine()
		for _, entry := range newGenerator(seed).log(200) {
			m.Apply(entry)
			checkState(t, m.view())
		}
	}
}

// checkState compares what a view answers with what can be counted in it the long way.
func checkState(t *testing.T, v View) {
	t.Helper()
	held := map[oci.Digest]int{}
	for repository, l := range v.Links() {
		held[l.Digest]++
		used := false
		for m := range v.Manifests() {
			for _, d := range m.Blobs {
				used = used || m.Repository == repository && d == l.Digest
			}
		}
		if used != l.Used {
			t.Fatalf("%s in %s is used: %v; want %v", l.Digest, repository, l.Used, used)
		}
	}
	for m, tagged := range v.Manifests() {
		held[m.Descriptor.Digest]++
		tags := 0
		for _, tag := range v.Tags(m.Repository, "", 100) {
			if tag.Digest == m.Descriptor.Digest {
				tags++
			}
		}
		if tags != tagged || len(v.TagsOf(m.Repository, m.Descriptor.Digest)) != tags {
			t.Fatalf("%s in %s has %d tags; want %d", m.Descriptor.Digest, m.Repository, tagged, tags)
		}
	}
	n := 0
	for d := range v.Digests() {
		if n++; held[d] == 0 || !v.Holds(d) {
			t.Fatalf("%s is held by no repository", d)
		}
	}
	if n != len(held) || v.Empty() != (n == 0) {
		t.Fatalf("%d digests are held; want %d", n, len(held))
	}
	for _, repository := range v.Repositories("", 100) {
		for _, tag := range v.Tags(repository, "", 100) {
			if _, ok := v.Manifest(repository, tag.Digest); !ok || buried(v, repository, tag.Name) {
				t.Fatalf("tag %s of %s names nothing, or is buried", tag.Name, repository)
			}
		}
	}
}
