package transfer

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// distrustFor is how long the issuer of a false piece list is passed over for that blob.
const distrustFor = 10 * time.Minute

// A falseListError says that what a node issued for a blob does not lead to the blob's digest. Another issuer may do
// better.
type falseListError struct {
	issuer string
	wrong  *oci.MismatchError
}

func (e *falseListError) Error() string { return fmt.Sprintf("issued by %s: %v", e.issuer, e.wrong) }
func (e *falseListError) Unwrap() error { return e.wrong }

// condemn gives up a list whose chain does not close: its issuer is to blame. All pieces of it are dropped, and who
// asks for the blob again fetches it from another issuer. The caller holds mu.
func (t *task) condemn(list *piece.List) {
	if t.list != list || t.complete() || t.err != nil {
		return
	}
	t.err = t.e.distrust(t.digest, list.Issuer())
	t.cancel()
}

// told takes in that a meeting point has found the list false which this node's pieces belong to: they are dropped, and
// who waits for the blob begins anew. Its word is no proof against the issuer; the meeting point itself is passed over
// for a while if the list is its own, or if it has said so before.
func (t *task) told(at string, err error) error {
	t.mu.Lock()
	list := t.list
	said := list != nil && !t.complete() && t.err == nil
	if said {
		t.err = &falseListError{list.Issuer(), &oci.MismatchError{Digest: t.digest, Piece: -1}}
	}
	t.mu.Unlock()
	if !said {
		return err
	}
	key, before := t.digest.String()+at, "told "+t.digest.String()+at
	if list.Issuer() == at || slices.Contains(t.e.doubted.ids(), before) {
		t.e.doubted.add(key)
	}
	t.e.doubted.add(before)
	t.log.Warn("meeting point says that the piece list is false", slog.String("peer", at), slog.String("issuer", list.Issuer()))
	t.cancel()
	return err
}

// goAstray notes that a node has given a wrong piece. If it is the meeting point, this node leaves it for the next one,
// and keeps the pieces that match: from who lies nothing more is taken, and nobody else may have the rest. The caller
// holds mu.
func (t *task) goAstray(id string) {
	if id != t.at {
		return
	}
	t.e.doubted.add(t.digest.String() + id)
	select {
	case t.stray <- id:
	default:
	}
}

// doubts are the nodes that gave something false of this blob, or said that they had, a moment ago.
func (t *task) doubts() []string {
	var ids []string
	for _, text := range append(t.e.distrusted.ids(), t.e.doubted.ids()...) {
		if id, ok := strings.CutPrefix(text, t.digest.String()); ok && id != t.e.cfg.Self.ID {
			ids = append(ids, id)
		}
	}
	return ids
}

// distrust passes over an issuer for a blob from now on.
func (e *Engine) distrust(d oci.Digest, issuer string) error {
	e.counters.condemned.Add(1)
	e.distrusted.add(d.String() + issuer)
	return &falseListError{issuer, &oci.MismatchError{Digest: d, Piece: -1}}
}
