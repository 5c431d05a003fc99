package catalog

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/pullonce/pullonce/oci"
)

// Limits of what one command may carry beside maxCommandBytes.
const (
	maxNameBytes    = 512
	maxSettingBytes = 64 << 10
	maxLease        = 10 * time.Minute
)

func (p PutManifest) check() error {
	if err := checkNames(p.Repository, p.Descriptor.Digest); err != nil {
		return err
	}
	if p.Descriptor.Size < 0 {
		return fmt.Errorf("%w: manifest of negative size", ErrCommandInvalid)
	}
	if err := checkText(p.Descriptor.MediaType, p.Descriptor.ArtifactType); err != nil {
		return err
	}
	for k, v := range p.Annotations {
		if err := checkText(k, v); err != nil {
			return err
		}
	}
	for _, d := range p.Blobs {
		if d.IsZero() {
			return fmt.Errorf("%w: a blob without a digest", ErrCommandInvalid)
		}
	}
	for _, t := range p.Tags {
		if err := oci.CheckTag(t); err != nil {
			return err
		}
	}
	if size := p.size(); size > maxCommandBytes {
		return fmt.Errorf("%w: manifest with %d bytes of names, the limit is %d", oci.ErrTooLarge, size, maxCommandBytes)
	}
	return nil
}

// size is a little more than the command will have.
func (p PutManifest) size() int {
	size := 1024 + len(p.Descriptor.MediaType) + len(p.Descriptor.ArtifactType)
	for _, d := range p.Blobs {
		size += len(d.String()) + 4
	}
	for _, t := range p.Tags {
		size += len(t) + 4
	}
	for k, v := range p.Annotations {
		size += len(k) + len(v) + 16
	}
	return size
}

func (p PutTag) check() error {
	if err := oci.CheckTag(p.Tag); err != nil {
		return err
	}
	return checkNames(p.Repository, p.Digest)
}

func (d DeleteTag) check() error {
	if err := oci.CheckTag(d.Tag); err != nil {
		return err
	}
	return checkName(d.Repository)
}

func (d DeleteManifest) check() error { return checkNames(d.Repository, d.Digest) }

func (l LinkBlob) check() error {
	if l.Size < 0 {
		return fmt.Errorf("%w: blob of negative size", ErrCommandInvalid)
	}
	return checkNames(l.Repository, l.Digest)
}

func (u UnlinkBlob) check() error { return checkNames(u.Repository, u.Digest) }

func (p PutPin) check() error { return checkNames(p.Name, p.Digest) }

func (u Unpin) check() error { return checkName(u.Name) }

func (t TakeLease) check() error {
	if t.TTL <= 0 || t.TTL > maxLease {
		return fmt.Errorf("%w: lease for %v", ErrCommandInvalid, t.TTL)
	}
	return checkNames(t.Node, t.Digest)
}

func (r ReleaseLease) check() error { return checkNames(r.Node, r.Digest) }

func (s SetSetting) check() error { return checkSetting(s.Key, s.Value) }

func (s SwapSetting) check() error { return checkSetting(s.Key, s.Value) }

func checkSetting(key string, value []byte) error {
	if len(value) > maxSettingBytes {
		return fmt.Errorf("%w: setting of %d bytes, the limit is %d", oci.ErrTooLarge, len(value), maxSettingBytes)
	}
	return checkName(key)
}

func (f Forget) check() error { return nil }

// checkName bounds what a state is keyed by. What a repository's name may look like is the door's business.
func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return fmt.Errorf("%w: name of %d bytes", ErrCommandInvalid, len(name))
	}
	return checkText(name)
}

// checkText holds texts to what the wire format can carry.
func checkText(texts ...string) error {
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return fmt.Errorf("%w: %.80q is no UTF-8", ErrCommandInvalid, t)
		}
	}
	return nil
}

func checkNames(name string, d oci.Digest) error {
	if d.IsZero() {
		return fmt.Errorf("%w: no digest", ErrCommandInvalid)
	}
	return checkName(name)
}
