package oci

import (
	"fmt"
	"strings"
)

// A Reference names a manifest within its repository, by tag or by digest: exactly one of the two is set.
type Reference struct {
	Tag    string
	Digest Digest
}

// ParseReference reads the last element of a manifest's URL: a digest if it has a colon, else a tag. The error is
// ErrDigestInvalid or ErrTagInvalid.
func ParseReference(text string) (Reference, error) {
	if strings.Contains(text, ":") {
		d, err := ParseDigest(text)
		return Reference{Digest: d}, err
	}
	if err := CheckTag(text); err != nil {
		return Reference{}, err
	}
	return Reference{Tag: text}, nil
}

// String is the tag, or the digest as text.
func (r Reference) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// CheckTag holds a tag to the specification's grammar, [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}; the error is ErrTagInvalid.
func CheckTag(tag string) error {
	if tag == "" || len(tag) > 128 {
		return fmt.Errorf("%w: length %d", ErrTagInvalid, len(tag))
	}
	for i := range len(tag) {
		c := tag[i]
		word := isAlnum(c) || c >= 'A' && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("%w: %q", ErrTagInvalid, tag)
		}
	}
	return nil
}
