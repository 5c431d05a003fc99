package copies

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// maxItems is how many blobs one question is about.
const maxItems = 1000

// A server answers peers. What it is asked is on the wire only; the Keeper's own methods are for this node.
type server struct {
	copiespb.UnimplementedCopiesServer
	k *Keeper
}

// Register makes a gRPC server, which must use bulk's codec, answer peers.
func (k *Keeper) Register(s grpc.ServiceRegistrar) {
	s.RegisterService(&copiespb.Copies_ServiceDesc, &server{k: k})
}

// Offer keeps as hosted what is here of what a peer offers.
func (s *server) Offer(_ context.Context, q *copiespb.OfferRequest) (*copiespb.OfferReply, error) {
	digests, err := parseDigests(q.GetDigests())
	if err != nil {
		return nil, err
	}
	reply := &copiespb.OfferReply{}
	for _, d := range digests {
		if s.k.keptHere(d) {
			reply.Have = append(reply.Have, d.String())
		}
	}
	return reply, nil
}

// Note puts notes beside the copies here. One that the disk does not take is an error.
func (s *server) Note(_ context.Context, q *copiespb.NoteRequest) (*copiespb.NoteReply, error) {
	if len(q.GetItems()) > maxItems {
		return nil, status.Errorf(codes.InvalidArgument, "%d notes", len(q.GetItems()))
	}
	reply := &copiespb.NoteReply{}
	for _, item := range q.GetItems() {
		d, err := oci.ParseDigest(item.GetDigest())
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		err = s.k.addNote(d, item.GetNote(), item.GetReplace())
		switch {
		case errors.Is(err, oci.ErrNotFound):
			reply.Absent = append(reply.Absent, d.String())
		case errors.Is(err, blobstore.ErrNotKept):
			return nil, status.Error(codes.ResourceExhausted, err.Error())
		case err != nil:
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return reply, nil
}

func parseDigests(texts []string) ([]oci.Digest, error) {
	if len(texts) > maxItems {
		return nil, status.Errorf(codes.InvalidArgument, "%d digests", len(texts))
	}
	digests := make([]oci.Digest, len(texts))
	for i, text := range texts {
		var err error
		if digests[i], err = oci.ParseDigest(text); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return digests, nil
}

// client speaks to a peer.
func (k *Keeper) client(n Node) (copiespb.CopiesClient, error) {
	conn, err := k.parts.Conn(n.Address)
	if err != nil {
		return nil, err
	}
	return copiespb.NewCopiesClient(conn), nil
}

func (k *Keeper) keptHere(d oci.Digest) bool {
	err := k.holds.with(d, func() error {
		b, err := k.parts.Store.Open(d) // not only known: somebody may have removed the file
		if err != nil {
			return err
		}
		return errors.Join(k.parts.Store.SetHosted(d, true), b.Close())
	})
	return err == nil
}

// addNote puts a note beside the copy here: merged with what is there, or in its place. oci.ErrNotFound: no whole copy
// is here.
func (k *Keeper) addNote(d oci.Digest, note []byte, replace bool) error {
	if len(note) == 0 && !replace {
		return nil
	}
	return k.holds.with(d, func() error {
		if _, err := k.parts.Store.Stat(d); err != nil {
			return err
		}
		old := k.parts.Store.Note(d)
		if len(old) > 0 && !replace && !bytes.Equal(old, note) {
			note = k.parts.Catalog.Merge(old, note)
		}
		return k.parts.Store.SetNote(d, note) // what is there already is not written
	})
}
