package registryapi

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	// maxSend is the most that goes to the kernel in one call, so that bytes are counted while a large blob is sent.
	maxSend = 8 << 20
	// maxWrite is the most that one write deadline has to suffice for.
	maxWrite = 256 << 10
)

// errOverrun is a Blob that writes more than it was asked for.
var errOverrun = errors.New("blob wrote more bytes than asked for")

// A stream is the body of a response as a Blob writes it. It sends the header with the first byte, bounds how long the
// source and the client may each stand still, and lets no byte pass beyond those announced.
type stream struct {
	w       *response
	control *http.ResponseController
	header  func()      // sets the header of a response that succeeds
	status  int         // of such a response
	source  *time.Timer // runs while the source is waited for; cancels the context of WriteRange

	stallTimeout  time.Duration
	clientTimeout time.Duration

	left  int64 // bytes still to come
	begun bool
	lost  bool // the client is gone or takes nothing
}

// begin starts the response. The header is sent at once, so that the client has it however long the bytes after the
// next n take; when there are none, it goes with them.
func (s *stream) begin(n int64) error {
	if s.begun {
		return nil
	}
	s.begun = true
	s.header()
	s.extend()
	s.w.WriteHeader(s.status)
	if n == s.left {
		return nil
	}
	return supported(s.control.Flush())
}

// extend gives the client its time anew.
func (s *stream) extend() {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.clientTimeout)) // fails only where there are no deadlines
}

// supported leaves out the error of a server that cannot do it at all, such as a test's recorder.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Write sends p.
func (s *stream) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		return 0, errOverrun
	}
	s.source.Stop()
	defer s.source.Reset(s.stallTimeout)
	if err := s.begin(int64(len(p))); err != nil {
		s.lost = true
		return 0, err
	}
	written := 0
	for written < len(p) {
		s.extend()
		n, err := s.w.Write(p[written:min(len(p), written+maxWrite)])
		written += n
		s.left -= int64(n)
		if err != nil {
			s.lost = true
			return written, err
		}
	}
	return written, nil
}

// ReadFrom sends src up to its end, by sendfile if src is an *os.File or an *io.LimitedReader of one.
func (s *stream) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: s.left}
	}
	if !isFile(limited.R) {
		return io.Copy(struct{ io.Writer }{s}, src) // Write tells the client's time from the source's
	}
	if limited.N > s.left {
		return 0, errOverrun
	}
	s.source.Stop()
	defer s.source.Reset(s.stallTimeout)
	if err := s.begin(-1); err != nil { // not with the file: what of a header is sent must be known before send goes on
		s.lost = true
		return 0, err
	}
	var sent int64
	for limited.N > 0 {
		want := min(limited.N, maxSend)
		n, err := s.send(limited.R, want)
		sent += n
		limited.N -= n
		s.left -= n
		if err != nil || n < want {
			return sent, err // n < want without an error: src has ended
		}
	}
	return sent, nil
}

// send sends n bytes of file. It goes on after a deadline as long as the client took any byte within it and each byte
// read from the file was sent (sendfile keeps that, copying through a buffer does not).
func (s *stream) send(file io.Reader, n int64) (sent int64, err error) {
	part := &io.LimitedReader{R: file, N: n}
	for {
		s.extend()
		k, err := s.w.ReadFrom(part)
		sent += k
		s.lost = clientLost(err)
		if k == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || n-part.N != sent {
			return sent, err
		}
		if s.lost = false; part.N == 0 {
			return sent, nil
		}
	}
}

// clientLost tells an error of the connection from one of the file.
func clientLost(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// isFile tells whether the kernel can read r by itself, without waiting for another machine. io.Copy hides an
// *os.File in a type of package os, hence no plain type assertion.
func isFile(r io.Reader) bool {
	_, ok := r.(interface {
		syscall.Conn
		Stat() (fs.FileInfo, error)
	})
	return ok
}
