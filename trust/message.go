package trust

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// maxMessage bounds a question and an answer.
const maxMessage = 64 << 10

// readQuestion reads what somebody at the join door asks, who may be anybody.
func readQuestion(r io.Reader) (*trustpb.Question, error) {
	q := new(trustpb.Question)
	if err := readMessage(r, q); err != nil {
		return nil, err
	}
	if q.GetServe() != nil { // a member that passed it on would be taken for who asks
		return nil, errors.New("certificates of registries are for members that call")
	}
	return q, checkQuestion(q)
}

// checkQuestion holds a question to the bounds of its parts.
func checkQuestion(q *trustpb.Question) error {
	join, renewal := q.GetJoin(), q.GetRenewal()
	switch {
	case len(join.GetToken()) > 4*tokenLen || len(join.GetRequest()) > maxRequest || len(renewal.GetRequest()) > maxRequest:
		return errors.New("a part of the question is too long")
	case len(q.GetServe().GetRequest()) > maxServeRequest:
		return errors.New("a certificate request is too long")
	case join == nil && renewal == nil && q.GetLook() == nil && q.GetServe() == nil:
		return errors.New("a question of no kind that is known here")
	}
	return nil
}

// readMessage reads a message behind its length.
func readMessage(r io.Reader, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return fmt.Errorf("message of %d bytes: want at most %d", size, maxMessage)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return errors.New("read a message: it is garbled") // the cause may quote it
	}
	return nil
}

// writeMessage writes what readMessage reads.
func writeMessage(w io.Writer, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(raw) > maxMessage {
		return fmt.Errorf("message of %d bytes: want at most %d", len(raw), maxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(raw)), uint32(len(raw))), raw...))
	return err
}
