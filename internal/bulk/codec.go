// Package bulk moves messages of many bytes over gRPC without copying them.
//
// A Message is a plain proto message on the wire whose last field, number 15, is bytes. A plain bytes field would cost two
// copies on each side; a Message passes its bytes by reference, from the sender's buffer to the socket and from gRPC's
// buffers to whoever checks and writes them. All peers' servers and connections use its codec, which treats every other
// message as gRPC does. A Codec may be shared by goroutines; a Message belongs to one.
package bulk

import (
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one falls back to
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// dataField is the number of the bytes field that ends such messages.
const dataField = 15

// What stands before the data field is looked for in the first usualHead bytes, and is at most maxHead long unless the
// Message says otherwise.
const (
	usualHead = 512
	maxHead   = 4 << 10
)

// A Message is a message whose last field is bytes. The codec passes them by reference; on the wire it is the plain proto
// message.
type Message struct {
	Head proto.Message   // all other fields
	Data mem.BufferSlice // the bytes; who receives a Message frees it
	Max  int             // bytes that Head may take when it is received; 0: 4 KiB
}

// Free gives the bytes back to their pool.
func (b *Message) Free() {
	b.Data.Free()
	b.Data = nil
}

// A Codec is gRPC's proto codec, and moves Messages without copying their bytes.
type Codec struct{ plain encoding.CodecV2 }

// NewCodec is a codec for a server and for the connections to it.
func NewCodec() Codec { return Codec{encoding.GetCodecV2("proto")} }

// Name is the name of gRPC's own codec, whose messages these are.
func (c Codec) Name() string { return "proto" }

// Marshal writes a Message, or any other message as gRPC does.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*Message)
	if !ok {
		return c.plain.Marshal(v)
	}
	head, err := proto.Marshal(b.Head)
	if err != nil {
		return nil, fmt.Errorf("marshal the head of a message: %w", err)
	}
	if n := b.Data.Len(); n > 0 {
		head = protowire.AppendTag(head, dataField, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(n))
	}
	out := make(mem.BufferSlice, 0, len(b.Data)+1)
	out = append(out, mem.SliceBuffer(head))
	return append(out, b.Data...), nil
}

// Unmarshal reads a Message, or any other message as gRPC does.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*Message)
	if !ok {
		return c.plain.Unmarshal(data, v)
	}
	head, size, skip, err := cutHead(data, b.Max)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(head, b.Head); err != nil {
		return fmt.Errorf("unmarshal the head of a message: %w", err)
	}
	if data.Len()-skip != size {
		return fmt.Errorf("%d bytes in a message of %d", size, data.Len()-skip)
	}
	b.Data = from(data, skip)
	return nil
}

// cutHead finds where the data field's bytes start: head are the fields before it, size its length, skip the bytes
// before the first of them.
func cutHead(data mem.BufferSlice, limit int) (head []byte, size, skip int, err error) {
	if limit == 0 {
		limit = maxHead
	}
	for n := min(usualHead, limit); ; n = limit {
		head, size, skip, err = parseHead(data, n)
		if err == nil || n == limit || n >= data.Len() {
			return head, size, skip, err
		}
	}
}

// parseHead is cutHead within the first limit bytes.
func parseHead(data mem.BufferSlice, limit int) (head []byte, size, skip int, err error) {
	front := make([]byte, min(limit, data.Len()))
	r := data.Reader()
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, front); err != nil {
		return nil, 0, 0, fmt.Errorf("read the head of a message: %w", err)
	}
	for at := 0; at < len(front); {
		number, kind, n := protowire.ConsumeTag(front[at:])
		if n < 0 {
			return nil, 0, 0, fmt.Errorf("head of a message: %w", protowire.ParseError(n))
		}
		if number == dataField && kind == protowire.BytesType {
			length, m := protowire.ConsumeVarint(front[at+n:])
			if m < 0 || length > uint64(data.Len()) {
				return nil, 0, 0, fmt.Errorf("head of a message: length of its data")
			}
			return front[:at], int(length), at + n + m, nil
		}
		m := protowire.ConsumeFieldValue(number, kind, front[at+n:])
		if m < 0 {
			return nil, 0, 0, fmt.Errorf("head of a message: %w", protowire.ParseError(m))
		}
		at += n + m
	}
	if len(front) < data.Len() {
		return nil, 0, 0, fmt.Errorf("head of a message is over %d bytes", limit)
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
