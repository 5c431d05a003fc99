package node

import (
	"slices"
	"sync"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

const (
	// maxRights bounds the repositories of which credentials are at hand, and rightsEach those of one.
	maxRights, rightsEach = 4096, 4
	// rightFor is how long a client's credential may be used to fetch what it was shown to be good for. Tokens last that
	// long as a rule.
	rightFor = 5 * time.Minute
)

// rights are clients' credentials that the upstream has accepted for a repository a moment ago, in memory alone. With
// them this node, or the one that owns a blob, fetches what the farm itself may not read.
type rights struct {
	farm func(oci.Repository) bool // the farm has credentials of its own for a repository

	mu   sync.Mutex
	good map[oci.Repository][]right // of each the newest first
}

type right struct {
	authorization upstream.Secret
	until         time.Time
}

func newRights(farm func(oci.Repository) bool) *rights {
	return &rights{farm: farm, good: make(map[oci.Repository][]right)}
}

// Of implements transfer.Rights. What the farm can read by itself needs nobody's name.
func (r *rights) Of(repo oci.Repository) string {
	if r.farm(repo) {
		return ""
	}
	all := r.all(repo)
	if len(all) == 0 {
		return ""
	}
	return string(all[0])
}

// Hear implements transfer.Rights.
func (r *rights) Hear(repo oci.Repository, authorization string) {
	if !r.farm(repo) {
		r.note(repo, upstream.Secret(authorization))
	}
}

// all are the credentials for a repository that were good a moment ago, the newest first.
func (r *rights) all(repo oci.Repository) []upstream.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []upstream.Secret
	now := time.Now()
	for _, one := range r.good[repo] {
		if now.Before(one.until) {
			out = append(out, one.authorization)
		}
	}
	return out
}

// note remembers that a credential is good for a repository.
func (r *rights) note(repo oci.Repository, authorization upstream.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.DeleteFunc(r.good[repo], func(one right) bool { return one.authorization == authorization })
	list = slices.Insert(list, 0, right{authorization, time.Now().Add(rightFor)})
	if _, ok := r.good[repo]; !ok && len(r.good) >= maxRights {
		r.shrink()
	}
	r.good[repo] = list[:min(len(list), rightsEach)]
}

// drop forgets a credential that the upstream has refused.
func (r *rights) drop(repo oci.Repository, authorization upstream.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.DeleteFunc(r.good[repo], func(one right) bool { return one.authorization == authorization })
	if r.good[repo] = list; len(list) == 0 {
		delete(r.good, repo)
	}
}

// shrink makes room: what has run out goes, and else any. The caller holds mu.
func (r *rights) shrink() {
	now := time.Now()
	for repo, list := range r.good {
		if !now.Before(list[0].until) {
			delete(r.good, repo)
		}
	}
	for repo := range r.good {
		if len(r.good) < maxRights {
			return
		}
		delete(r.good, repo)
	}
}
