package transfer

import (
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// dataField is the number of the bytes field that ends PieceReply and PushRequest (transfer.proto).
const dataField = 15

// maxHead bounds what may stand before the data field.
const maxHead = 4 << 10

// A bulk is a message whose last field is a piece's bytes. The codec passes them by reference; on the wire it is the
// plain proto message.
type bulk struct {
	head proto.Message
	data mem.BufferSlice
}

// free gives the bytes back to their pool.
func (b *bulk) free() {
	b.data.Free()
	b.data = nil
}

// A bulkCodec is gRPC's proto codec, and moves bulk messages without copying their bytes: a plain bytes field costs
// two copies of every piece on each side.
type bulkCodec struct{ plain encoding.CodecV2 }

func newCodec() bulkCodec { return bulkCodec{encoding.GetCodecV2("proto")} }

func (c bulkCodec) Name() string { return "proto" }

func (c bulkCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*bulk)
	if !ok {
		return c.plain.Marshal(v)
	}
	head, err := proto.Marshal(b.head)
	if err != nil {
		return nil, fmt.Errorf("marshal the head of a piece: %w", err)
	}
	if n := b.data.Len(); n > 0 {
		head = protowire.AppendTag(head, dataField, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(n))
	}
	out := make(mem.BufferSlice, 0, len(b.data)+1)
	out = append(out, mem.SliceBuffer(head))
	return append(out, b.data...), nil
}

func (c bulkCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*bulk)
	if !ok {
		return c.plain.Unmarshal(data, v)
	}
	head, size, skip, err := cutHead(data)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(head, b.head); err != nil {
		return fmt.Errorf("unmarshal the head of a piece: %w", err)
	}
	if data.Len()-skip != size {
		return fmt.Errorf("piece of %d bytes in a message of %d", size, data.Len()-skip)
	}
	b.data = from(data, skip)
	return nil
}

// cutHead finds where the data field's bytes start: head are the fields before it, size its length, skip the bytes
// before the first of them.
func cutHead(data mem.BufferSlice) (head []byte, size, skip int, err error) {
	front := make([]byte, min(maxHead, data.Len()))
	r := data.Reader()
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, front); err != nil {
		return nil, 0, 0, fmt.Errorf("read the head of a piece: %w", err)
	}
	for at := 0; at < len(front); {
		number, kind, n := protowire.ConsumeTag(front[at:])
		if n < 0 {
			return nil, 0, 0, fmt.Errorf("head of a piece: %w", protowire.ParseError(n))
		}
		if number == dataField && kind == protowire.BytesType {
			length, m := protowire.ConsumeVarint(front[at+n:])
			if m < 0 || length > uint64(data.Len()) {
				return nil, 0, 0, fmt.Errorf("head of a piece: length of its data")
			}
			return front[:at], int(length), at + n + m, nil
		}
		m := protowire.ConsumeFieldValue(number, kind, front[at+n:])
		if m < 0 {
			return nil, 0, 0, fmt.Errorf("head of a piece: %w", protowire.ParseError(m))
		}
		at += n + m
	}
	if len(front) < data.Len() {
		return nil, 0, 0, fmt.Errorf("head of a piece is over %d bytes", maxHead)
	}
	return front, 0, data.Len(), nil
}

// from is data without its first skip bytes, with references of its own.
func from(data mem.BufferSlice, skip int) mem.BufferSlice {
	var out mem.BufferSlice
	for _, b := range data {
		n := b.Len()
		if skip < n {
			out = append(out, b.Slice(skip, n))
		}
		skip = max(0, skip-n)
	}
	return out
}
