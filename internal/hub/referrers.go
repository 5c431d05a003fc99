package hub

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrers knows which manifests name which subject, by repository. The front keeps it, as not
// every registry behind it does.
type referrers struct {
	mu sync.Mutex
	by map[string][]v1.Descriptor // repository@subject
}

func newReferrers() *referrers { return &referrers{by: map[string][]v1.Descriptor{}} }

// subjected is what a manifest or an index says about its subject.
type subjected struct {
	ArtifactType string            `json:"artifactType"`
	Config       v1.Descriptor     `json:"config"`
	Subject      *v1.Descriptor    `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

// subjectOf returns the subject that a manifest names, or nothing.
func subjectOf(raw []byte) digest.Digest {
	var m subjected
	if json.Unmarshal(raw, &m) != nil || m.Subject == nil {
		return ""
	}
	return m.Subject.Digest
}

// record notes a manifest if it has a subject.
func (s *referrers) record(repo, mediaType string, d digest.Digest, raw []byte) {
	var m subjected
	if json.Unmarshal(raw, &m) != nil || m.Subject == nil {
		return
	}
	artifactType := m.ArtifactType
	if artifactType == "" {
		artifactType = m.Config.MediaType
	}
	key := repo + "@" + m.Subject.Digest.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.by[key] {
		if known.Digest == d {
			return
		}
	}
	s.by[key] = append(s.by[key], v1.Descriptor{
		MediaType: mediaType, ArtifactType: artifactType, Digest: d, Size: int64(len(raw)), Annotations: m.Annotations,
	})
}

// serve answers the referrers API of the OCI distribution specification.
func (s *referrers) serve(w http.ResponseWriter, r *http.Request, q request) {
	if _, err := digest.Parse(q.ref); err != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	wanted := r.URL.Query().Get("artifactType")
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	s.mu.Lock()
	for _, d := range s.by[q.repo+"@"+q.ref] {
		if wanted == "" || d.ArtifactType == wanted {
			index.Manifests = append(index.Manifests, d)
		}
	}
	s.mu.Unlock()
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	raw, err := json.Marshal(index)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
	_, _ = w.Write(raw)
}
