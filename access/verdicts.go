package access

import (
	"time"

	"github.com/pullonce/pullonce/oci"
)

// A Verdict is what an upstream has said of a credential that wanted to read a repository.
type Verdict uint8

// The verdicts. The zero Verdict is none.
const (
	MayRead      Verdict = iota + 1
	Unauthorized         // it wants other credentials: 401
	Denied               // 403
	NotFound             // 404, which many say to whom they do not want to tell that there is something
)

// Err is how a door says v to a client: nil for MayRead, else an error of package oci. The zero Verdict is
// oci.ErrUnavailable: nobody has said anything.
func (v Verdict) Err() error {
	switch v {
	case MayRead:
		return nil
	case Unauthorized:
		return oci.ErrUnauthorized
	case Denied:
		return oci.ErrDenied
	case NotFound:
		return oci.ErrNotFound
	}
	return oci.ErrUnavailable
}

// Verdicts remembers for a short time who may read which repository of an upstream. It is bounded by count, for who may
// and for who may not apart: however many wrong credentials are tried, who may read is remembered.
type Verdicts struct {
	may, not *table[asked, given]
}

type asked struct {
	key  Key
	repo oci.Repository
}

type given struct {
	verdict Verdict
	fresh   time.Time // until then nobody need be asked again
}

// NewVerdicts remembers at most limit of each kind, a limit below 1 counting as 1.
func NewVerdicts(limit int) *Verdicts {
	return &Verdicts{may: newTable[asked, given](limit), not: newTable[asked, given](limit)}
}

// Ask tells what is known of whether the credential of k may read repo. What is known but not fresh holds only while the
// upstream cannot be asked.
func (v *Verdicts) Ask(k Key, repo oci.Repository) (verdict Verdict, fresh, known bool) {
	now := time.Now()
	g, ok := v.may.get(asked{k, repo}, now)
	if !ok {
		g, ok = v.not.get(asked{k, repo}, now)
	}
	return g.verdict, ok && now.Before(g.fresh), ok
}

// Allow remembers that the credential of k may read repo: for ttl, and where the upstream cannot be asked then, for stale
// longer.
func (v *Verdicts) Allow(k Key, repo oci.Repository, ttl, stale time.Duration) {
	now := time.Now()
	v.may.put(asked{k, repo}, given{MayRead, now.Add(ttl)}, now.Add(ttl+max(0, stale)))
	v.not.forget(asked{k, repo})
}

// Deny remembers for ttl that the upstream refused to let the credential of k read repo, and how. Nothing stale remains.
func (v *Verdicts) Deny(k Key, repo oci.Repository, how Verdict, ttl time.Duration) {
	if how == MayRead {
		panic("access: a refusal that allows")
	}
	until := time.Now().Add(ttl)
	v.may.forget(asked{k, repo})
	v.not.put(asked{k, repo}, given{how, until}, until)
}

// Forget drops what is known of the credential of k and repo.
func (v *Verdicts) Forget(k Key, repo oci.Repository) {
	v.may.forget(asked{k, repo})
	v.not.forget(asked{k, repo})
}

// Len is how many verdicts take room now.
func (v *Verdicts) Len() int { return v.may.length() + v.not.length() }
