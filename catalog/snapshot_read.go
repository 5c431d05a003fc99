package catalog

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// maxRecordBytes leaves room around what a command may carry.
const maxRecordBytes = maxCommandBytes + 4096

// ErrSnapshotInvalid says that the bytes are no snapshot of a catalog, or not what was written.
var ErrSnapshotInvalid = errors.New("invalid snapshot of a catalog")

// readSnapshot reads what WriteTo wrote, to its end. The error is ErrSnapshotInvalid, oci.ErrUnsupported for one of a
// later release, or what r says.
func readSnapshot(r io.Reader) (*state, error) {
	in := &recordReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	if err := in.magic(); err != nil {
		return nil, err
	}
	s, err := in.state()
	if err != nil {
		return nil, err
	}
	return s, in.end()
}

type recordReader struct {
	r   *bufio.Reader
	sum hash.Hash
	buf []byte
}

func (in *recordReader) magic() error {
	magic := make([]byte, len(snapshotMagic))
	if err := in.read(magic); err != nil {
		return err
	}
	last := len(magic) - 1
	switch {
	case string(magic[:last]) != snapshotMagic[:last]:
		return fmt.Errorf("%w: it begins with %q", ErrSnapshotInvalid, magic)
	case magic[last] != snapshotMagic[last]:
		return fmt.Errorf("%w: snapshot of version %d", oci.ErrUnsupported, magic[last])
	}
	return nil
}

// state reads records up to their end.
func (in *recordReader) state() (*state, error) {
	s := newState()
	s.beginLoad()
	for n := 0; ; n++ {
		r, err := in.record()
		if err != nil {
			return nil, err
		}
		if r == nil && n > 0 {
			s.endLoad()
			return s, nil
		}
		if _, head := r.GetRecord().(*catalogpb.Record_Head); head != (n == 0) {
			return nil, fmt.Errorf("%w: the head is not the first record", ErrSnapshotInvalid)
		}
		if err := s.load(r); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrSnapshotInvalid, n, err)
		}
	}
}

// record is the next record, or nil after the last.
func (in *recordReader) record() (*catalogpb.Record, error) {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, short(err)
	}
	if size == 0 {
		return nil, nil
	}
	if size > maxRecordBytes {
		return nil, fmt.Errorf("%w: record of %d bytes", ErrSnapshotInvalid, size)
	}
	if uint64(cap(in.buf)) < size {
		in.buf = make([]byte, size)
	}
	raw := in.buf[:size]
	if err := in.read(raw); err != nil {
		return nil, err
	}
	r := &catalogpb.Record{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotInvalid, err)
	}
	if strange(r.ProtoReflect()) {
		return nil, fmt.Errorf("%w: record of a later release", oci.ErrUnsupported)
	}
	return r, nil
}

// end reads the checksum, after which there must be nothing.
func (in *recordReader) end() error {
	want := in.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := in.read(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the checksum does not match", ErrSnapshotInvalid)
	}
	if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("%w: more follows after its end", ErrSnapshotInvalid), err)
	}
	return nil
}

func (in *recordReader) read(p []byte) error {
	if _, err := io.ReadFull(in.r, p); err != nil {
		return short(err)
	}
	_, _ = in.sum.Write(p)
	return nil
}

// ReadByte is for binary.ReadUvarint.
func (in *recordReader) ReadByte() (byte, error) {
	b, err := in.r.ReadByte()
	if err == nil {
		_, _ = in.sum.Write([]byte{b})
	}
	return b, err
}

// short tells an early end from a reader that does not read.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early", ErrSnapshotInvalid)
	}
	return fmt.Errorf("read snapshot of the catalog: %w", err)
}
