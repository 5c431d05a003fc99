package catalog

import (
	"fmt"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// answerQuestion looks a question up in a view.
func answerQuestion(v View, q *catalogpb.Question) (*catalogpb.Answer, error) {
	d, err := readDigest(q.GetDigest())
	if err != nil {
		return nil, err
	}
	a := &catalogpb.Answer{Index: v.Index()}
	repository, name, n := q.GetRepository(), q.GetName(), min(int(q.GetCount()), maxPage)
	switch q.GetKind() {
	case catalogpb.Question_KIND_TAG:
		t, ok := v.Tag(repository, name)
		if a.Found = ok; ok {
			a.Tags = writeTags(t)
		}
	case catalogpb.Question_KIND_TAGS:
		a.Found, a.Tags = v.Known(repository), writeTags(v.Tags(repository, name, n)...)
	case catalogpb.Question_KIND_REPOSITORIES:
		a.Names = v.Repositories(name, n)
	case catalogpb.Question_KIND_MANIFEST:
		m, ok := v.Manifest(repository, d)
		if a.Found = ok; ok {
			a.Manifests = []*catalogpb.Manifest{m.message()}
			for _, tag := range v.TagsOf(repository, d) {
				t, _ := v.Tag(repository, tag)
				a.Tags = append(a.Tags, writeTags(t)...)
			}
		}
	case catalogpb.Question_KIND_LINK:
		l, ok := v.Link(repository, d)
		a.Found, a.Used = ok, l.Used
		a.Link = &catalogpb.Link{Size: l.Size, Index: l.Index, Time: toNanos(l.Since)}
	case catalogpb.Question_KIND_REFERRERS:
		for _, m := range v.Referrers(repository, d, name) {
			a.Manifests = append(a.Manifests, m.message())
		}
	case catalogpb.Question_KIND_PIN:
		p, ok := v.Pin(name)
		a.Found, a.Pin = ok, &catalogpb.Pin{Name: p.Name, Digest: p.Digest.String(), Until: toNanos(p.Until)}
	case catalogpb.Question_KIND_DIGESTS:
		for h := range v.s.holds.from(holdItem{digest: d}) {
			if len(a.Names) >= n {
				break
			}
			if h.digest != d {
				a.Names = append(a.Names, h.digest.String())
			}
		}
	case catalogpb.Question_KIND_HOLDS:
		a.Found = v.Holds(d)
	case catalogpb.Question_KIND_SETTING, catalogpb.Question_KIND_SETTINGS:
		answerSettings(v, q, a)
	case catalogpb.Question_KIND_DESCRIBE:
		return a, answerDescribe(v, q, a)
	case catalogpb.Question_KIND_HOLDS_ALL:
		return a, answerHoldsAll(v, q, a)
	case catalogpb.Question_KIND_UNUSED:
		answerUnused(v, q, d, a)
	default:
		return nil, fmt.Errorf("%w: question of a later release", oci.ErrUnsupported)
	}
	return a, nil
}

func writeTags(tags ...Tag) []*catalogpb.Tag {
	wire := make([]*catalogpb.Tag, 0, len(tags))
	for _, t := range tags {
		wire = append(wire, &catalogpb.Tag{Tag: t.Name, Digest: t.Digest.String(), Index: t.Index})
	}
	return wire
}

func readTags(wire []*catalogpb.Tag) ([]Tag, error) {
	tags := make([]Tag, 0, len(wire))
	for _, p := range wire {
		d, err := oci.ParseDigest(p.GetDigest())
		if err != nil {
			return nil, fmt.Errorf("read tag: %w", err)
		}
		tags = append(tags, Tag{p.GetTag(), d, p.GetIndex()})
	}
	return tags, nil
}
