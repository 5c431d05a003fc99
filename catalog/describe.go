package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// maxDescribed bounds the bytes of notes in one answer; the last of them may go beyond it.
const maxDescribed = 1 << 20

// maxScan bounds the links that are looked at for one page of unused ones.
const maxScan = 50_000

// A LinkCursor is a place among links, between two pages. The zero one is before the first.
type LinkCursor struct {
	Repository string
	Digest     oci.Digest
}

// An UnusedLink is a blob that a repository links and none of its manifests lists.
type UnusedLink struct {
	Repository string
	LinkedBlob
	Names int // in how many ways repositories have the digest, this link among them
}

// Describe is what the catalog says of manifests, for the notes beside their copies: a copy for each repository that
// has one of them or had it deleted (Copy.Gone) lately. A digest that is no manifest's is not in the map. At most 1,000
// digests; on every node. The manifests in several copies may share what they list.
func (c *Catalog) Describe(ctx context.Context, digests []oci.Digest, stale bool) (map[oci.Digest][]Copy, error) {
	if err := checkPage(digests); err != nil {
		return nil, err
	}
	found := make(map[oci.Digest][]Copy, len(digests))
	for len(digests) > 0 {
		a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_DESCRIBE, Digests: texts(digests)}, stale)
		if err != nil {
			return nil, err
		}
		notes := a.GetNotes()
		if len(notes) == 0 || len(notes) > len(digests) {
			return nil, fmt.Errorf("describe %d digests: %d answers", len(digests), len(notes))
		}
		for i, note := range notes {
			copies, err := DecodeCopies(note)
			if err != nil {
				return nil, fmt.Errorf("describe %s: %w", digests[i], err)
			}
			if len(copies) > 0 {
				found[digests[i]] = copies
			}
		}
		digests = digests[len(notes):]
	}
	return found, nil
}

// HoldsAll tells of each digest whether any repository has it, as a blob or as a manifest. At most 1,000 digests; on
// every node.
func (c *Catalog) HoldsAll(ctx context.Context, digests []oci.Digest, stale bool) ([]bool, error) {
	if err := checkPage(digests); err != nil || len(digests) == 0 {
		return nil, err
	}
	a, err := c.ask(ctx, &catalogpb.Question{Kind: catalogpb.Question_KIND_HOLDS_ALL, Digests: texts(digests)}, stale)
	if err == nil && len(a.GetHolds()) != len(digests) {
		err = fmt.Errorf("ask for %d digests: %d answers", len(digests), len(a.GetHolds()))
	}
	return a.GetHolds(), err
}

// Unused are up to n links (at most 1,000) that were made before a time and that no manifest of their repository uses,
// after a place; next is where to go on, nil at the end. A page may be short, or empty, and not the last. On every node,
// linearizable; Link.Index is for UnlinkBlob.IfIndex, since all may have changed by then.
func (c *Catalog) Unused(ctx context.Context, before time.Time, after LinkCursor, n int) (links []UnusedLink, next *LinkCursor, err error) {
	a, err := c.ask(ctx, &catalogpb.Question{
		Kind: catalogpb.Question_KIND_UNUSED, Before: toNanos(before), Count: page(n),
		Repository: after.Repository, Digest: after.Digest.String(),
	}, false)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range a.GetLinks() {
		d, err := oci.ParseDigest(p.GetDigest())
		if err != nil {
			return nil, nil, fmt.Errorf("read link: %w", err)
		}
		link := Link{Size: p.GetSize(), Index: p.GetIndex(), Since: fromNanos(p.GetTime())}
		links = append(links, UnusedLink{p.GetRepository(), LinkedBlob{d, link}, int(p.GetNames())})
	}
	if a.GetNext() == nil {
		return links, nil, nil
	}
	d, err := readDigest(a.GetNext().GetDigest())
	return links, &LinkCursor{a.GetNext().GetRepository(), d}, err
}

// Index is one that no command which was answered before the call has a higher one than, and no command that is
// proposed after it a lower: what CopiedTag.Base and Copy.Index take before a write. On every node; the error is
// ErrNoQuorum within Config.Patience.
func (c *Catalog) Index(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Patience)
	defer cancel()
	return c.readIndex(ctx)
}

func checkPage(digests []oci.Digest) error {
	if len(digests) > maxPage {
		return fmt.Errorf("%w: %d digests in one question, the limit is %d", oci.ErrTooLarge, len(digests), maxPage)
	}
	return nil
}

func texts(digests []oci.Digest) []string {
	list := make([]string, len(digests))
	for i, d := range digests {
		list[i] = d.String()
	}
	return list
}

// Copies are what the view says of a manifest, for the notes beside its copies: one for each repository that has it, or
// had it deleted and has not forgotten that.
func (v View) Copies(d oci.Digest) []Copy {
	var copies []Copy
	for p := range v.s.places.from(placeItem{&Manifest{Descriptor: oci.Descriptor{Digest: d}}}) {
		if p.Descriptor.Digest != d {
			break
		}
		copies = append(copies, v.copyOf(p.Manifest))
	}
	for t := range v.s.graves.from(tombItem{name: d.String()}) {
		if t.name != d.String() {
			break
		}
		copies = append(copies, Copy{
			Repository: t.repository, Descriptor: oci.Descriptor{Digest: d}, Index: t.index, Gone: true, AsOf: t.index,
		})
	}
	return copies
}

func (v View) copyOf(m *Manifest) Copy {
	item, _ := v.s.manifests.get(manifestItem{Manifest: m})
	c := Copy{
		Repository: m.Repository, Descriptor: m.Descriptor, Annotations: m.Annotations, Subject: m.Subject,
		Index: m.Index, AsOf: max(m.Index, item.changed),
	}
	for _, d := range m.Blobs {
		c.Blobs = append(c.Blobs, CopiedBlob{d, v.sizeOf(m.Repository, d)})
	}
	for _, name := range v.s.tagsOf(item) {
		t, _ := v.s.tags.get(tagItem{repository: m.Repository, tag: name})
		c.Tags = append(c.Tags, CopiedTag{Name: name, Index: t.index})
	}
	return c
}

// sizeOf is the size of what a manifest lists.
func (v View) sizeOf(repository string, d oci.Digest) int64 {
	if l, ok := v.Link(repository, d); ok {
		return l.Size
	}
	if m, ok := v.Manifest(repository, d); ok {
		return m.Descriptor.Size
	}
	return 0
}

// answerDescribe answers for as many of the digests as one message has room for.
func answerDescribe(v View, q *catalogpb.Question, a *catalogpb.Answer) error {
	size := 0
	for _, text := range q.GetDigests() {
		if size > maxDescribed || len(a.Notes) >= maxPage {
			break
		}
		d, err := oci.ParseDigest(text)
		if err != nil {
			return err
		}
		note := EncodeCopies(v.Copies(d))
		size += len(note)
		a.Notes = append(a.Notes, note)
	}
	return nil
}

func answerHoldsAll(v View, q *catalogpb.Question, a *catalogpb.Answer) error {
	for _, text := range q.GetDigests()[:min(len(q.GetDigests()), maxPage)] {
		d, err := oci.ParseDigest(text)
		if err != nil {
			return err
		}
		a.Holds = append(a.Holds, v.Holds(d))
	}
	return nil
}

// names is in how many ways repositories have a digest.
func (v View) names(d oci.Digest) int {
	h, _ := v.s.holds.get(holdItem{digest: d})
	return h.count
}

func answerUnused(v View, q *catalogpb.Question, d oci.Digest, a *catalogpb.Answer) {
	scanned, n := 0, max(1, min(int(q.GetCount()), maxPage))
	for l := range v.s.links.from(linkItem{repository: q.GetRepository(), digest: d}) {
		if l.repository == q.GetRepository() && l.digest == d {
			continue
		}
		if l.index > 0 && l.uses == 0 && l.time < q.GetBefore() {
			a.Links = append(a.Links, &catalogpb.Link{
				Repository: l.repository, Digest: l.digest.String(), Size: l.size, Index: l.index, Time: l.time,
				Names: uint32(v.names(l.digest)),
			})
		}
		if scanned++; len(a.Links) >= n || scanned >= maxScan {
			a.Next = &catalogpb.Link{Repository: l.repository, Digest: l.digest.String()}
			return
		}
	}
}
