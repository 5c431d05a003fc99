package catalog

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

func (p PutManifest) fill(c *catalogpb.Command) {
	m := &Manifest{
		Repository: p.Repository, Descriptor: p.Descriptor, Annotations: p.Annotations,
		Subject: p.Subject, Blobs: p.Blobs,
	}
	c.Do = &catalogpb.Command_PutManifest{PutManifest: &catalogpb.PutManifest{Manifest: m.message(), Tags: p.Tags}}
}

func (p PutTag) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_PutTag{PutTag: &catalogpb.PutTag{Repository: p.Repository, Tag: p.Tag, Digest: p.Digest.String()}}
}

func (d DeleteTag) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_DeleteTag{DeleteTag: &catalogpb.DeleteTag{Repository: d.Repository, Tag: d.Tag}}
}

func (d DeleteManifest) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_DeleteManifest{DeleteManifest: &catalogpb.DeleteManifest{Repository: d.Repository, Digest: d.Digest.String()}}
}

func (l LinkBlob) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_LinkBlob{LinkBlob: &catalogpb.LinkBlob{Repository: l.Repository, Digest: l.Digest.String(), Size: l.Size}}
}

func (u UnlinkBlob) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_UnlinkBlob{UnlinkBlob: &catalogpb.UnlinkBlob{
		Repository: u.Repository, Digest: u.Digest.String(), IfUnused: u.IfUnused, IfIndex: u.IfIndex,
	}}
}

func (p PutPin) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_Pin{Pin: &catalogpb.Pin{Name: p.Name, Digest: p.Digest.String(), Until: toNanos(p.Until)}}
}

func (u Unpin) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_Unpin{Unpin: &catalogpb.Unpin{Name: u.Name}}
}

func (t TakeLease) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_TakeLease{TakeLease: &catalogpb.TakeLease{Digest: t.Digest.String(), Node: t.Node, Ttl: int64(t.TTL)}}
}

func (r ReleaseLease) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_ReleaseLease{ReleaseLease: &catalogpb.ReleaseLease{Digest: r.Digest.String(), Node: r.Node}}
}

func (s SetSetting) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_SetSetting{SetSetting: &catalogpb.SetSetting{Key: s.Key, Value: s.Value}}
}

func (s SwapSetting) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_SwapSetting{SwapSetting: &catalogpb.SwapSetting{Key: s.Key, Value: s.Value, IfIndex: s.IfIndex}}
}

func (f Forget) fill(c *catalogpb.Command) {
	c.Do = &catalogpb.Command_Forget{Forget: &catalogpb.Forget{Before: toNanos(f.Before)}}
}

func readPutManifest(p *catalogpb.PutManifest) (Action, error) {
	m, err := readManifest(p.GetManifest())
	if err != nil {
		return nil, err
	}
	return PutManifest{
		Repository: m.Repository, Descriptor: m.Descriptor, Annotations: m.Annotations,
		Subject: m.Subject, Blobs: m.Blobs, Tags: p.GetTags(),
	}, nil
}

func readUnlinkBlob(p *catalogpb.UnlinkBlob) (Action, error) {
	d, err := readDigest(p.GetDigest())
	return UnlinkBlob{p.GetRepository(), d, p.GetIfUnused(), p.GetIfIndex()}, err
}

// message is m as commands and snapshots carry it.
func (m *Manifest) message() *catalogpb.Manifest {
	p := &catalogpb.Manifest{
		Repository: m.Repository, Digest: m.Descriptor.Digest.String(), MediaType: m.Descriptor.MediaType,
		Size: m.Descriptor.Size, ArtifactType: m.Descriptor.ArtifactType, Annotations: m.Annotations,
		Subject: m.Subject.String(), Index: m.Index,
	}
	for _, d := range m.Blobs {
		p.Blobs = append(p.Blobs, d.String())
	}
	return p
}

func readManifest(p *catalogpb.Manifest) (*Manifest, error) {
	m := &Manifest{Repository: p.GetRepository(), Annotations: p.GetAnnotations(), Index: p.GetIndex()}
	m.Descriptor = oci.Descriptor{MediaType: p.GetMediaType(), Size: p.GetSize(), ArtifactType: p.GetArtifactType()}
	var err error
	if m.Descriptor.Digest, err = oci.ParseDigest(p.GetDigest()); err != nil {
		return nil, err
	}
	if m.Subject, err = readDigest(p.GetSubject()); err != nil {
		return nil, err
	}
	for _, text := range p.GetBlobs() {
		d, err := oci.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		m.Blobs = append(m.Blobs, d)
	}
	return m, nil
}

// readDigest reads a digest or, from an empty text, none.
func readDigest(text string) (d oci.Digest, err error) {
	err = d.UnmarshalText([]byte(text))
	return d, err
}

// toNanos is a time as commands and snapshots carry it: nanoseconds since 1970, and 0 for the zero time.
func toNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// marshal panics only when a string is no UTF-8, which check and the types of the parts rule out.
func marshal(m proto.Message) []byte {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return raw
}

// strange tells whether m, or a message in it, has fields that this release does not know.
func strange(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Message() != nil && !fd.IsMap() && !fd.IsList() {
			found = found || strange(v.Message())
		}
		return !found
	})
	return found
}
