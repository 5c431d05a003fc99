package registryapi

import (
	"net/url"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// maxTags is how many tags one manifest may be given at once; the specification asks for at least 10.
const maxTags = 100

// A pushQuery is the parameters of pushes, unescaped.
type pushQuery struct {
	digest    oci.Digest
	algorithm string // "" when not given
	mount     oci.Digest
	from      string
	tags      []string
}

const uploadsSuffix = "/blobs/uploads"

// parsePush parses the URL of a push. The kind is right even if there is an error. The path of a new upload ends in a
// slash, which no other path may.
func parsePush(u *url.URL, names oci.Names) (request, pushQuery, error) {
	if name, ok := strings.CutSuffix(strings.TrimSuffix(u.Path, "/"), uploadsSuffix); ok && !strings.HasSuffix(name, "/") {
		at := *u
		at.Path = name + uploadsSuffix + "/new" // no id is so short
		at.RawPath = strings.TrimSuffix(u.RawPath, "/")
		q, err := parseRequest(&at, names)
		q.id = ""
		p, queryErr := parsePushQuery(u.RawQuery)
		return q, p, firstOf(err, queryErr)
	}
	q, err := parseRequest(u, names)
	p, queryErr := parsePushQuery(u.RawQuery)
	return q, p, firstOf(err, queryErr)
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// parsePushQuery reads what pushes have besides the parameters of pulls. Only tag may come more than once.
func parsePushQuery(raw string) (pushQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return pushQuery{}, badRequest(codeUploadInvalid, "invalid query", "")
	}
	var p pushQuery
	one := func(key string) string {
		if len(values[key]) > 1 {
			err = badRequest(codeUploadInvalid, "query parameter given twice", key)
		}
		return values.Get(key)
	}
	p.digest, err = parseDigestParameter(one("digest"), err)
	p.mount, err = parseDigestParameter(one("mount"), err)
	p.from, p.algorithm, p.tags = one("from"), one("digest-algorithm"), values["tag"]
	if err != nil {
		return p, err
	}
	if p.algorithm != "" && p.algorithm != oci.SHA256 && p.algorithm != oci.SHA512 {
		return p, badRequest(codeDigestInvalid, "unsupported digest algorithm", "digest-algorithm")
	}
	if len(p.tags) > maxTags {
		return p, &failure{status: 414, code: codeTagInvalid, message: "too many tags at once"}
	}
	for _, tag := range p.tags {
		if err := oci.CheckTag(tag); err != nil {
			return p, err
		}
	}
	return p, nil
}

func parseDigestParameter(text string, before error) (oci.Digest, error) {
	if text == "" || before != nil {
		return oci.Digest{}, before
	}
	return oci.ParseDigest(text)
}
