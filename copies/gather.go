package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

const (
	notesBatch = 1 << 20 // bytes of notes in one message, and one note more
	atOnce     = 16      // members that are asked at once
	maxNotes   = 1 << 22 // notes that one member may send
)

// A Copy is what lies beside the copies of a hosted manifest, all notes merged.
type Copy struct {
	Digest    oci.Digest
	MediaType string
	Size      int64
	Note      []byte
	Nodes     int // members that have a copy
}

// CopiesOf gathers the notes of all copies of manifests on all members that are up, sorted by digest. With an error,
// which says which members did not tell, the result is what the others have. It asks no catalog.
func (k *Keeper) CopiesOf(ctx context.Context) ([]Copy, error) {
	var mu sync.Mutex
	all := make(map[oci.Digest]*Copy)
	err := k.everywhere(ctx, func(ctx context.Context, n Node) error {
		return k.notesAt(ctx, n, func(c Copy) {
			mu.Lock()
			defer mu.Unlock()
			if old := all[c.Digest]; old != nil {
				c.Note, c.Nodes = k.parts.Catalog.Merge(old.Note, c.Note), old.Nodes+1
			}
			all[c.Digest] = &c
		})
	})
	out := make([]Copy, 0, len(all))
	for _, c := range all {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Copy) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return out, err
}

// A NodeError is what one member could not do of what all were asked for.
type NodeError struct {
	Node string // its id
	Err  error
}

func (e *NodeError) Error() string { return "node " + e.Node + ": " + e.Err.Error() }

func (e *NodeError) Unwrap() error { return e.Err }

// NodeErrors are those that make up an error of CopiesOf or CollectFarm.
func NodeErrors(err error) []*NodeError {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var out []*NodeError
	for _, one := range joined.Unwrap() {
		if e, ok := errors.AsType[*NodeError](one); ok {
			out = append(out, e)
		}
	}
	return out
}

// everywhere does something for each member that is up, this node too. Its error joins those of the members.
func (k *Keeper) everywhere(ctx context.Context, do func(context.Context, Node) error) error {
	nodes := append([]Node{{ID: k.cfg.Node}}, k.parts.Farm.Others()...)
	errs := make([]error, len(nodes))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, n := range nodes {
		g.Go(func() error {
			if err := do(ctx, n); err != nil {
				errs[i] = &NodeError{n.ID, err}
			}
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// notesAt gives the notes of one member.
func (k *Keeper) notesAt(ctx context.Context, n Node, f func(Copy)) error {
	if n.ID == k.cfg.Node {
		k.eachNote(func(c Copy) bool {
			f(c)
			return ctx.Err() == nil
		})
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := k.client(n)
	if err != nil {
		return err
	}
	stream, err := client.Notes(ctx, &copiespb.NotesRequest{})
	if err != nil {
		return err
	}
	for count := 0; count < maxNotes; {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, item := range r.GetItems() {
			d, err := oci.ParseDigest(item.GetDigest())
			if err != nil || len(item.GetNote()) > blobstore.MaxNoteBytes {
				return fmt.Errorf("note of %.80q with %d bytes", item.GetDigest(), len(item.GetNote()))
			}
			f(Copy{Digest: d, MediaType: item.GetMediaType(), Size: item.GetSize(), Note: item.GetNote(), Nodes: 1})
		}
		count += max(1, len(r.GetItems()))
	}
	return errors.New("too many notes")
}

// eachNote calls f with the notes that lie here beside hosted blobs, until it returns false.
func (k *Keeper) eachNote(f func(Copy) bool) {
	k.parts.Store.EachHosted(func(d oci.Digest, size int64) bool {
		note := k.parts.Store.Note(d)
		if len(note) == 0 {
			return true
		}
		info, err := k.parts.Store.Stat(d)
		return err != nil || f(Copy{Digest: d, MediaType: info.MediaType, Size: size, Note: note, Nodes: 1})
	})
}

// Notes answers a peer on which the catalog is to be recovered.
func (s *server) Notes(_ *copiespb.NotesRequest, stream grpc.ServerStreamingServer[copiespb.NotesReply]) error {
	r, size := &copiespb.NotesReply{}, 0
	var err error
	s.k.eachNote(func(c Copy) bool {
		r.Items = append(r.Items, &copiespb.NotesReply_Item{
			Digest: c.Digest.String(), MediaType: c.MediaType, Size: c.Size, Note: c.Note,
		})
		if size += len(c.Note) + 256; size >= notesBatch {
			err = stream.Send(r)
			r, size = &copiespb.NotesReply{}, 0
		}
		return err == nil
	})
	if err == nil && len(r.GetItems()) > 0 {
		err = stream.Send(r)
	}
	return err
}
