package transfer

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/internal/bulk"
	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// parts cuts a message into buffers of n bytes, as gRPC hands over what came in frames.
func parts(raw []byte, n int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(raw) > 0 {
		m := min(n, len(raw))
		out = append(out, mem.SliceBuffer(raw[:m]))
		raw = raw[m:]
	}
	return out
}

func TestABulkMessageIsThePlainMessageOnTheWire(t *testing.T) {
	data := bytes.Repeat([]byte("piece"), 1000)
	codec := bulk.NewCodec()
	sent := &bulk.Message{
		Head: &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_OK, Load: 3},
		Data: mem.BufferSlice{mem.SliceBuffer(data)},
	}
	wire, err := codec.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var plain transferpb.PieceReply
	if err := proto.Unmarshal(wire.Materialize(), &plain); err != nil {
		t.Fatal(err)
	}
	if plain.GetLoad() != 3 || !bytes.Equal(plain.GetData(), data) {
		t.Errorf("plain message has load %d and %d bytes; want 3 and %d", plain.GetLoad(), len(plain.GetData()), len(data))
	}
	for _, frame := range []int{1, 7, 16, 4096, 1 << 20} {
		got := &bulk.Message{Head: &transferpb.PieceReply{}}
		if err := codec.Unmarshal(parts(wire.Materialize(), frame), got); err != nil {
			t.Fatalf("frames of %d: %v", frame, err)
		}
		if head := got.Head.(*transferpb.PieceReply); head.GetLoad() != 3 || !bytes.Equal(got.Data.Materialize(), data) {
			t.Errorf("frames of %d: load %d and %d bytes; want 3 and %d", frame, head.GetLoad(), got.Data.Len(), len(data))
		}
		got.Free()
	}
}

func TestABulkMessageWithoutBytesArrivesAsSuch(t *testing.T) {
	codec := bulk.NewCodec()
	wire, err := codec.Marshal(&bulk.Message{Head: &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_BUSY}})
	if err != nil {
		t.Fatal(err)
	}
	got := &bulk.Message{Head: &transferpb.PieceReply{}}
	if err := codec.Unmarshal(wire, got); err != nil || got.Data.Len() != 0 {
		t.Fatalf("Unmarshal = %v with %d bytes; want nil with none", err, got.Data.Len())
	}
	if s := got.Head.(*transferpb.PieceReply).GetStatus(); s != transferpb.PieceReply_STATUS_BUSY {
		t.Errorf("status %v; want busy", s)
	}
}

func FuzzBulkUnmarshal(f *testing.F) {
	codec := bulk.NewCodec()
	wire, _ := codec.Marshal(&bulk.Message{
		Head: &transferpb.PieceReply{Status: transferpb.PieceReply_STATUS_OK}, Data: mem.BufferSlice{mem.SliceBuffer("data")},
	})
	f.Add(wire.Materialize(), 3)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, raw []byte, frame int) {
		if frame < 1 {
			return
		}
		got := &bulk.Message{Head: &transferpb.PieceReply{}}
		if err := codec.Unmarshal(parts(raw, frame), got); err != nil {
			return
		}
		again, err := codec.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		back := &bulk.Message{Head: &transferpb.PieceReply{}}
		if err := codec.Unmarshal(again, back); err != nil || !bytes.Equal(back.Data.Materialize(), got.Data.Materialize()) {
			t.Errorf("what was accepted of %x does not survive a round trip: %v", raw, err)
		}
	})
}

func TestConditionsSurviveTheWire(t *testing.T) {
	d := oci.FromBytes(oci.SHA256, nil)
	for _, c := range wireCodes {
		if got := localError(wireError(c.err), "n1", d); !errors.Is(got, c.err) {
			t.Errorf("%v came over as %v", c.err, got)
		}
	}
	got := localError(wireError(&oci.TooManyRequestsError{RetryAfter: time.Minute}), "n1", d)
	if many, ok := errors.AsType[*oci.TooManyRequestsError](got); !ok || many.RetryAfter != time.Minute {
		t.Errorf("a limit of a minute came over as %v", got)
	}
	if _, ok := errors.AsType[*oci.MismatchError](localError(wireError(&oci.MismatchError{Digest: d}), "n1", d)); !ok {
		t.Error("a mismatch did not come over as one")
	}
	if got := localError(wireError(errors.New("no condition of ours")), "n1", d); !errors.Is(got, oci.ErrUnavailable) {
		t.Errorf("what no code names came over as %v; want ErrUnavailable", got)
	}
}

func FuzzLocalList(f *testing.F) {
	f.Add("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", int64(5<<20), int64(1<<20), "n1", []byte("12345678"), make([]byte, 64))
	f.Fuzz(func(t *testing.T, digest string, size, pieceSize int64, issuer string, nonce, midstates []byte) {
		h := &transferpb.ListHeader{Digest: digest, Size: size, PieceSize: pieceSize, Issuer: issuer, Nonce: nonce}
		l, err := localList(h, midstates)
		if err != nil {
			return
		}
		if back := wireHeader(l.Header()); !proto.Equal(back, h) {
			t.Errorf("round trip of %v gave %v", h, back)
		}
		if !bytes.Equal(l.Midstates(1), midstates) {
			t.Errorf("%d bytes of midstates became %d", len(midstates), len(l.Midstates(1)))
		}
	})
}
