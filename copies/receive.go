package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
	copiespb "github.com/pullonce/pullonce/proto/copies"
)

// A parcel is a blob that a peer sends, as the head of the stream announces it.
type parcel struct {
	digest    oci.Digest // zero while its client still sends
	size      int64      // -1 then
	mediaType string
	note      []byte
	algorithm string
	repair    bool // nobody waits for it
}

// parseHead reads what begins a stream.
func parseHead(h *copiespb.StoreRequest_Head) (parcel, error) {
	p := parcel{size: h.GetSize(), mediaType: h.GetMediaType(), note: h.GetNote(), algorithm: h.GetAlgorithm(), repair: h.GetRepair()}
	switch {
	case h == nil:
		return parcel{}, errors.New("a stream without a head")
	case p.size < -1:
		return parcel{}, fmt.Errorf("blob of %d bytes", p.size)
	case len(p.note) > blobstore.MaxNoteBytes:
		return parcel{}, fmt.Errorf("note of %d bytes", len(p.note))
	}
	if h.GetDigest() == "" {
		p.size = -1
		if p.algorithm != oci.SHA256 && p.algorithm != oci.SHA512 {
			return parcel{}, fmt.Errorf("algorithm %.40q", p.algorithm)
		}
		return p, nil
	}
	var err error
	p.digest, err = oci.ParseDigest(h.GetDigest())
	p.algorithm = p.digest.Algorithm()
	return p, err
}

// Store takes a blob that a peer sends.
func (s *server) Store(stream grpc.ClientStreamingServer[copiespb.StoreRequest, copiespb.StoreReply]) error {
	in := openInbox(stream, s.k.cfg.Stall)
	defer in.close()
	first, err := in.next(stream.Context())
	if err != nil {
		return err
	}
	first.Free()
	p, err := parseHead(first.request().GetHead())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	st, err := s.k.receive(stream.Context(), in, p)
	if st == copiespb.StoreReply_STATUS_UNSPECIFIED {
		return status.Error(codes.Aborted, err.Error())
	}
	reply := &copiespb.StoreReply{Status: st}
	if err != nil {
		reply.Text = err.Error()
	}
	return stream.SendAndClose(reply)
}

// receive takes a blob and says what became of it; nothing is to be said when the peer has left in the middle.
func (k *Keeper) receive(ctx context.Context, in *inbox, p parcel) (copiespb.StoreReply_Status, error) {
	if !p.digest.IsZero() && k.keptHere(p.digest) {
		if err := k.addNote(p.digest, p.note, false); err != nil {
			return copiespb.StoreReply_STATUS_FAILED, err
		}
		return copiespb.StoreReply_STATUS_HAD, nil
	}
	as := p.class(k.cfg.Message)
	if !k.incoming.begin(p.digest, as) {
		return copiespb.StoreReply_STATUS_BUSY, nil
	}
	defer k.incoming.end(p.digest, as)
	d, size, err := k.keep(ctx, in, p)
	if err != nil {
		k.count.refused.Add(1)
		k.log.LogAttrs(ctx, slog.LevelInfo, "copy not kept", slog.String("digest", d.String()), slog.Any("error", err))
		return statusOf(err), err
	}
	k.count.received.Add(1)
	k.count.receivedBytes.Add(size)
	if k.parts.Stored != nil {
		k.parts.Stored(d)
	}
	return copiespb.StoreReply_STATUS_STORED, nil
}

// statusOf is what a peer is told of a blob that was not kept.
func statusOf(err error) copiespb.StoreReply_Status {
	_, mismatch := errors.AsType[*oci.MismatchError](err)
	switch {
	case mismatch:
		return copiespb.StoreReply_STATUS_MISMATCH
	case errors.Is(err, blobstore.ErrNotKept):
		return copiespb.StoreReply_STATUS_NO_SPACE
	case errors.Is(err, errUnsent):
		return copiespb.StoreReply_STATUS_UNSPECIFIED
	}
	return copiespb.StoreReply_STATUS_FAILED
}

// errUnsent says that a peer did not send all of a blob.
var errUnsent = errors.New("blob was not sent to its end")

// keep writes and hashes a blob as it comes and puts it down: bytes, name, mark and note are synced when it returns.
// Of anything else than the whole blob nothing stays.
func (k *Keeper) keep(ctx context.Context, in *inbox, p parcel) (oci.Digest, int64, error) {
	if !p.digest.IsZero() {
		k.holds.mark(p.digest)
	}
	u, err := k.parts.Store.StartIncoming(p.algorithm, p.size)
	if err != nil {
		return p.digest, 0, err
	}
	defer func() { _ = u.Close() }() // nothing, or the removal of what was not committed
	end, err := k.takeBytes(ctx, in, p, u)
	if err != nil {
		return p.digest, 0, err
	}
	d, err := endOf(p, u.Offset(), end)
	if err != nil {
		return d, 0, err
	}
	k.holds.mark(d)
	if err := u.Commit(ctx, d, blobstore.Origin{MediaType: p.mediaType, Hosted: true, Note: p.note}); err != nil {
		return d, 0, err
	}
	if !k.keptHere(d) { // a collection was quicker
		return d, 0, fmt.Errorf("copy of %s: %w", d, oci.ErrNotFound)
	}
	return d, u.Offset(), k.addNote(d, p.note, false)
}

// takeBytes takes all bytes of a blob and returns what ended them.
func (k *Keeper) takeBytes(ctx context.Context, in *inbox, p parcel, u *blobstore.Upload) (*copiespb.StoreRequest_End, error) {
	var end *copiespb.StoreRequest_End
	err := u.AppendPortions(ctx, func(ctx context.Context) (blobstore.Portion, error) {
		l, err := in.next(ctx)
		if err != nil {
			return blobstore.Portion{}, fmt.Errorf("%w: %w", errUnsent, err)
		}
		if end = l.request().GetEnd(); end != nil {
			l.Free()
			return blobstore.Portion{}, io.EOF
		}
		if p.size >= 0 && u.Offset()+int64(l.Data.Len()) > p.size {
			l.Free()
			return blobstore.Portion{}, &oci.MismatchError{Digest: p.digest, Piece: -1}
		}
		return portion(l), nil
	})
	return end, err
}

// portion is what a message has for the disk: as it came off the line, since putting it together would cost a copy.
func portion(l letter) blobstore.Portion {
	parts := make([][]byte, len(l.Data))
	for i, part := range l.Data {
		parts[i] = part.ReadOnlyData()
	}
	return blobstore.Portion{Parts: parts, Free: l.Free}
}

// endOf is the digest that the bytes must have, by what was said at their beginning and at their end.
func endOf(p parcel, size int64, end *copiespb.StoreRequest_End) (oci.Digest, error) {
	d, err := oci.ParseDigest(end.GetDigest())
	if err != nil {
		return p.digest, err
	}
	if end.GetSize() != size || p.size >= 0 && p.size != size || !p.digest.IsZero() && p.digest != d {
		return d, &oci.MismatchError{Digest: d, Piece: -1}
	}
	return d, nil
}
