package transfer

import (
	"fmt"
	"log/slog"
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
	t.log.Error("piece list does not lead to the digest, dropping it", slog.String("issuer", list.Issuer()))
	t.cancel()
}

// distrust passes over an issuer for a blob from now on.
func (e *Engine) distrust(d oci.Digest, issuer string) error {
	e.counters.condemned.Add(1)
	e.distrusted.add(d.String() + issuer)
	return &falseListError{issuer, &oci.MismatchError{Digest: d, Piece: -1}}
}
