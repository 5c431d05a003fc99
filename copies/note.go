package copies

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// Note puts a note beside the copies of d on all its places that are up, and on the one here if there is one: merged
// with what is there, or in its place. It is on their disks, synced, when Note returns. ErrTooFew: fewer nodes took it
// than must have a push.
func (k *Keeper) Note(ctx context.Context, d oci.Digest, note []byte, replace bool) error {
	results := make(chan error)
	running, good := 1, 0
	go func() { results <- k.noteHere(d, note, replace) }()
	for _, n := range k.parts.Farm.Places(d, k.cfg.Copies, true) {
		if n.ID != k.cfg.Node {
			running++
			go func() { results <- k.noteOn(ctx, n, d, note, replace) }()
		}
	}
	var errs []error
	for range running {
		if err := <-results; err == nil {
			good++
		} else {
			errs = append(errs, err)
		}
	}
	if least := k.least(); good < least {
		return wrap("note on", d, errors.Join(append([]error{fmt.Errorf("%w: %d of %d", ErrTooFew, good, least)}, errs...)...))
	}
	return nil
}

// noteHere puts a note beside the copy here. One that is only cached is no place for it: it may go at any time.
func (k *Keeper) noteHere(d oci.Digest, note []byte, replace bool) error {
	if err := k.addNote(d, note, replace); err != nil {
		return err
	}
	if !k.hostsNow(d) {
		return fmt.Errorf("note on %s here: the copy is only cached", d)
	}
	return nil
}

// noteOn puts a note beside the copy that another node has. oci.ErrNotFound: it has none.
func (k *Keeper) noteOn(ctx context.Context, to Node, d oci.Digest, note []byte, replace bool) error {
	if len(note) == 0 && !replace {
		return nil
	}
	client, err := k.client(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Stall)
	defer cancel()
	reply, err := client.Note(ctx, &copiespb.NoteRequest{
		Items: []*copiespb.NoteRequest_Item{{Digest: d.String(), Note: note, Replace: replace}},
	})
	if err != nil {
		return fmt.Errorf("note on %s at %s: %w", d, to.ID, err)
	}
	if len(reply.GetAbsent()) > 0 {
		return fmt.Errorf("note on %s at %s: %w", d, to.ID, oci.ErrNotFound)
	}
	return nil
}
