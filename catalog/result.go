package catalog

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// The conditions that a command is refused for, beside those of oci. Match them with errors.Is.
var (
	// ErrCommandInvalid: no state may hold what the command carries.
	ErrCommandInvalid = errors.New("invalid command")
	// ErrInUse: a manifest of the repository lists the blob.
	ErrInUse = errors.New("in use")
	// ErrChanged: the link was made anew, or the setting changed, since the index that the command names.
	ErrChanged = errors.New("changed meanwhile")
)

// A MissingError says which blobs a manifest lists that are not in its repository.
type MissingError struct {
	Repository string
	Blobs      []oci.Digest
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d blobs missing in %s, %s first", len(e.Blobs), e.Repository, e.Blobs[0])
}

// A Result is what applying one command came to. It is the same on every voter.
type Result struct {
	Index  uint64    // of the command in the log
	Err    error     // why it was refused; the state is then as it was
	Holder string    // of TakeLease: the node that holds the lease now
	Until  time.Time // of TakeLease: how long it does, by the leader's clock
}

// marshal is r for the node that forwarded the command.
func (r Result) marshal() []byte {
	p := &catalogpb.Result{Index: r.Index, Holder: r.Holder, Until: toNanos(r.Until), Failure: failureOf(r.Err)}
	if r.Err != nil {
		p.Text = strings.ToValidUTF8(r.Err.Error(), "?")
	}
	if missing, ok := errors.AsType[*MissingError](r.Err); ok {
		p.Repository = missing.Repository
		for _, d := range missing.Blobs {
			p.Missing = append(p.Missing, d.String())
		}
	}
	return marshal(p)
}

// unmarshalResult reads what marshal wrote. The Err in it is of the same condition and has the same text.
func unmarshalResult(raw []byte) (Result, error) {
	p := &catalogpb.Result{}
	if err := proto.Unmarshal(raw, p); err != nil {
		return Result{}, fmt.Errorf("read result: %w", err)
	}
	r := Result{Index: p.GetIndex(), Holder: p.GetHolder(), Until: fromNanos(p.GetUntil())}
	var err error
	r.Err, err = errorOf(p)
	return r, err
}

// failures are the conditions that keep their meaning on the wire.
func failures() map[catalogpb.Failure]error {
	return map[catalogpb.Failure]error{
		catalogpb.Failure_FAILURE_NOT_FOUND:   oci.ErrNotFound,
		catalogpb.Failure_FAILURE_IN_USE:      ErrInUse,
		catalogpb.Failure_FAILURE_CHANGED:     ErrChanged,
		catalogpb.Failure_FAILURE_UNSUPPORTED: oci.ErrUnsupported,
		catalogpb.Failure_FAILURE_TOO_LARGE:   oci.ErrTooLarge,
	}
}

func failureOf(err error) catalogpb.Failure {
	if err == nil {
		return catalogpb.Failure_FAILURE_UNSPECIFIED
	}
	if _, ok := errors.AsType[*MissingError](err); ok {
		return catalogpb.Failure_FAILURE_MISSING_BLOBS
	}
	for f, condition := range failures() {
		if errors.Is(err, condition) {
			return f
		}
	}
	return catalogpb.Failure_FAILURE_OTHER
}

func errorOf(p *catalogpb.Result) (refused, err error) {
	switch p.GetFailure() {
	case catalogpb.Failure_FAILURE_UNSPECIFIED:
		return nil, nil
	case catalogpb.Failure_FAILURE_MISSING_BLOBS:
		missing := &MissingError{Repository: p.GetRepository()}
		for _, text := range p.GetMissing() {
			d, err := oci.ParseDigest(text)
			if err != nil {
				return nil, fmt.Errorf("read result: %w", err)
			}
			missing.Blobs = append(missing.Blobs, d)
		}
		if len(missing.Blobs) > 0 {
			return missing, nil
		}
	}
	return &refusedError{failures()[p.GetFailure()], p.GetText()}, nil
}

// A refusedError is the error of a result that came from another node.
type refusedError struct {
	condition error // nil when it is none that callers tell apart
	text      string
}

func (e *refusedError) Error() string { return e.text }
func (e *refusedError) Unwrap() error { return e.condition }
