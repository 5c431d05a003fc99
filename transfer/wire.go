package transfer

import (
	"errors"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// wireCodes pairs each condition of oci with its code on the wire.
var wireCodes = []struct {
	err  error
	code transferpb.Error_Code
}{
	{oci.ErrNotFound, transferpb.Error_CODE_NOT_FOUND},
	{oci.ErrNameUnknown, transferpb.Error_CODE_NAME_UNKNOWN},
	{oci.ErrUnauthorized, transferpb.Error_CODE_UNAUTHORIZED},
	{oci.ErrDenied, transferpb.Error_CODE_DENIED},
	{oci.ErrUnsupported, transferpb.Error_CODE_UNSUPPORTED},
	{oci.ErrTooLarge, transferpb.Error_CODE_TOO_LARGE},
	{oci.ErrManifestInvalid, transferpb.Error_CODE_MANIFEST_INVALID},
	{oci.ErrUnavailable, transferpb.Error_CODE_UNAVAILABLE},
}

// wireError is err for a peer. What no code names is unavailable: the peer may try elsewhere.
func wireError(err error) *transferpb.Error {
	e := &transferpb.Error{Code: transferpb.Error_CODE_UNAVAILABLE, Text: err.Error()}
	if many, ok := errors.AsType[*oci.TooManyRequestsError](err); ok {
		e.Code, e.RetryAfterMs = transferpb.Error_CODE_TOO_MANY_REQUESTS, many.RetryAfter.Milliseconds()
		return e
	}
	if _, ok := errors.AsType[*oci.MismatchError](err); ok {
		e.Code = transferpb.Error_CODE_MISMATCH
		return e
	}
	for _, c := range wireCodes {
		if errors.Is(err, c.err) {
			e.Code = c.code
			return e
		}
	}
	return e
}

// localError is what a peer reported, as the condition it stands for.
func localError(e *transferpb.Error, peer string, d oci.Digest) error {
	switch e.GetCode() {
	case transferpb.Error_CODE_TOO_MANY_REQUESTS:
		return &oci.TooManyRequestsError{RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond}
	case transferpb.Error_CODE_MISMATCH:
		return &oci.MismatchError{Digest: d, Piece: -1}
	}
	for _, c := range wireCodes {
		if c.code == e.GetCode() {
			return fmt.Errorf("%s says: %w", peer, c.err)
		}
	}
	return fmt.Errorf("%s says %.200q: %w", peer, e.GetText(), oci.ErrUnavailable)
}

func wireHeader(h piece.Header) *transferpb.ListHeader {
	return &transferpb.ListHeader{
		Digest: h.Digest.String(), Size: h.Size, PieceSize: h.PieceSize, Issuer: h.Issuer, Nonce: h.Nonce[:],
	}
}

// localList is the list that a peer sent: its header and the midstates that came with it.
func localList(h *transferpb.ListHeader, midstates []byte) (*piece.List, error) {
	d, err := oci.ParseDigest(h.GetDigest())
	if err != nil {
		return nil, err
	}
	if len(h.GetNonce()) != 8 {
		return nil, fmt.Errorf("piece list of %s: nonce of %d bytes", d, len(h.GetNonce()))
	}
	l, err := piece.FromHeader(piece.Header{
		Digest: d, Size: h.GetSize(), PieceSize: h.GetPieceSize(), Issuer: h.GetIssuer(), Nonce: [8]byte(h.GetNonce()),
	})
	if err != nil {
		return nil, err
	}
	if len(midstates) > 0 {
		err = l.Extend(1, midstates)
	}
	return l, err
}
