package copies

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/oci"
)

// A source gives the bytes of a blob in order. Read returns what is there without waiting for more, and nothing when
// nothing comes for a while, so that the stream can be kept alive; io.EOF when all was read.
type source interface {
	Read(ctx context.Context, buf []byte) (int, error)
	// Digest is what was read, once that was all of it.
	Digest() oci.Digest
}

// A wholeSource reads a whole blob from its file. What was not checked since the start of the node is checked first.
type wholeSource struct {
	blob   *blobstore.Blob
	reader *blobstore.Reader
	offset int64
}

func openWhole(s *blobstore.Store, d oci.Digest) (*wholeSource, error) {
	b, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	r, err := b.NewReader()
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &wholeSource{blob: b, reader: r}, nil
}

func (s *wholeSource) Read(ctx context.Context, buf []byte) (int, error) {
	n := int(min(int64(len(buf)), s.blob.Size()-s.offset))
	if n == 0 {
		return 0, io.EOF
	}
	for _, off := range []int64{s.offset, s.offset + int64(n) - 1} { // no message is longer than a piece
		if err := s.reader.Ready(ctx, off); err != nil {
			return 0, err
		}
	}
	if _, err := s.blob.File().ReadAt(buf[:n], s.offset); err != nil {
		return 0, err
	}
	s.offset += int64(n)
	return n, nil
}

func (s *wholeSource) Digest() oci.Digest { return s.blob.Digest() }

func (s *wholeSource) close() error { return errors.Join(s.reader.Close(), s.blob.Close()) }

// A growingSource reads an upload while its client sends it.
type growingSource struct {
	*blobstore.Follower
	beat    time.Duration // Read returns after so long without a byte
	patient time.Duration // a client that sent nothing for so long is not followed any more
	silent  time.Time     // since when
}

var errBeat = errors.New("nothing has come")

func (s *growingSource) Read(ctx context.Context, buf []byte) (int, error) {
	beat, cancel := context.WithTimeoutCause(ctx, s.beat, errBeat)
	defer cancel()
	n, err := s.Follower.Read(beat, buf)
	if n > 0 {
		s.silent = time.Now()
		return n, err
	}
	if errors.Is(err, errBeat) && ctx.Err() == nil && time.Since(s.silent) < s.patient {
		return 0, nil
	}
	return 0, err
}
