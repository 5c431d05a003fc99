package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// errTooSlow is why a handshake was given up.
var errTooSlow = errors.New("the handshake took too long")

// judge says why a handshake that was done under ctx has failed. verdict, if any, is what this side has said of the other.
func judge(ctx context.Context, err, verdict error) error {
	if verdict != nil {
		return verdict
	}
	if ctx.Err() != nil {
		return interrupted(context.Cause(ctx))
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(tooSlow, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return refuse(leftEarly, errors.New("left before the handshake was done"))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return refuse(notTLS, errors.New("does not speak TLS"))
	}
	return refuse(brokeOff, fmt.Errorf("handshake: %w", err))
}

// interrupted is the error of a handshake whose context has ended.
func interrupted(cause error) error {
	switch {
	case errors.Is(cause, errNoRoom):
		return refuse(noRoom, cause)
	case errors.Is(cause, errTooSlow):
		return refuse(tooSlow, cause)
	}
	return fmt.Errorf("handshake: %w", cause) // this node stops, or its caller does
}

// refusedAt closes raw, counts err if it is a refusal, and gives it back.
func (t *Trust) refusedAt(raw net.Conn, err error) error {
	_ = raw.Close()
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		t.refused.count(reason(refused.Reason), raw.RemoteAddr(), refused.Err)
	}
	return err
}
