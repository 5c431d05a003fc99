package bulk_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pullonce/pullonce/internal/bulk"
)

// frames cuts a message into buffers of n bytes, as gRPC hands over what came in frames.
func frames(raw []byte, n int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(raw) > 0 {
		m := min(n, len(raw))
		out = append(out, mem.SliceBuffer(raw[:m]))
		raw = raw[m:]
	}
	return out
}

func TestAMessageArrivesWithHeadsOfAnyAllowedSize(t *testing.T) {
	codec := bulk.NewCodec()
	data := bytes.Repeat([]byte("data"), 50_000)
	for _, head := range []int{0, 1, 500, 505, 512, 4000, 1 << 20} {
		for _, n := range []int{0, 1, len(data)} {
			text := strings.Repeat("h", head)
			sent := &bulk.Message{Head: wrapperspb.String(text)}
			if n > 0 {
				sent.Data = mem.BufferSlice{mem.SliceBuffer(data[:n])}
			}
			wire, err := codec.Marshal(sent)
			if err != nil {
				t.Fatal(err)
			}
			raw := wire.Materialize()
			got := &bulk.Message{Head: &wrapperspb.StringValue{}, Max: 1<<20 + 100}
			if err := codec.Unmarshal(frames(raw, 16<<10), got); err != nil {
				t.Fatalf("head of %d with %d bytes: %v", head, n, err)
			}
			if got.Head.(*wrapperspb.StringValue).GetValue() != text || !bytes.Equal(got.Data.Materialize(), data[:n]) {
				t.Errorf("head of %d with %d bytes did not arrive as it was sent", head, n)
			}
			got.Free()
			small := &bulk.Message{Head: &wrapperspb.StringValue{}}
			if err := codec.Unmarshal(frames(raw, 16<<10), small); (err == nil) != (head <= 4000) {
				t.Errorf("head of %d with %d bytes within 4 KiB: %v", head, n, err)
			}
		}
	}
}

func TestOtherMessagesGoAsTheyAre(t *testing.T) {
	codec := bulk.NewCodec()
	wire, err := codec.Marshal(wrapperspb.String("plain"))
	if err != nil {
		t.Fatal(err)
	}
	got := &wrapperspb.StringValue{}
	if err := codec.Unmarshal(wire, got); err != nil || got.GetValue() != "plain" {
		t.Errorf("Unmarshal = %v, %q; want plain", err, got.GetValue())
	}
}

func FuzzUnmarshal(f *testing.F) {
	codec := bulk.NewCodec()
	wire, _ := codec.Marshal(&bulk.Message{Head: wrapperspb.String("head"), Data: mem.BufferSlice{mem.SliceBuffer("data")}})
	f.Add(wire.Materialize(), 3, 0)
	f.Add([]byte{}, 1, 1000)
	f.Fuzz(func(t *testing.T, raw []byte, frame, limit int) {
		if frame < 1 || limit < 0 || limit > 1<<20 {
			return
		}
		got := &bulk.Message{Head: &wrapperspb.StringValue{}, Max: limit}
		if err := codec.Unmarshal(frames(raw, frame), got); err != nil {
			return
		}
		again, err := codec.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		back := &bulk.Message{Head: &wrapperspb.StringValue{}, Max: 1 << 20}
		if err := codec.Unmarshal(again, back); err != nil || !bytes.Equal(back.Data.Materialize(), got.Data.Materialize()) {
			t.Errorf("what was accepted of %x does not survive a round trip: %v", raw, err)
		}
	})
}
