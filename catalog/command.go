package catalog

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pullonce/pullonce/oci"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// maxCommandBytes bounds a command, and with it an entry of the log and a record of a snapshot. It has room for the
// names of ten thousand blobs.
const maxCommandBytes = 1 << 20

// A Command is one entry of the log.
type Command struct {
	// Time is the leader's clock when it appended the command. Who proposes a command leaves it zero.
	Time time.Time
	Do   Action
}

// An Action is what a command does: one of the kinds beside it.
type Action interface {
	check() error                    // the names and numbers are such as may stand in a state
	fill(c *catalogpb.Command)       // sets the kind
	apply(s *state, r *Result) error // what it comes to in s
}

// check tells whether c may be proposed. Errors are those of oci, or ErrCommandInvalid.
func (c Command) check() error {
	if c.Do == nil {
		return fmt.Errorf("%w: it does nothing", ErrCommandInvalid)
	}
	return c.Do.check()
}

// marshal is the command as it stands in the log. The same command gives the same bytes.
func (c Command) marshal() []byte {
	p := &catalogpb.Command{Time: toNanos(c.Time)}
	if c.Do != nil {
		c.Do.fill(p)
	}
	return marshal(p)
}

// unmarshalCommand reads what marshal wrote. The error is ErrUnsupported for a command of a later release, and
// ErrCommandInvalid, oci.ErrTooLarge or what check says for one that no release writes.
func unmarshalCommand(raw []byte) (Command, error) {
	if len(raw) > maxCommandBytes {
		return Command{}, fmt.Errorf("%w: command of %d bytes, the limit is %d", oci.ErrTooLarge, len(raw), maxCommandBytes)
	}
	p := &catalogpb.Command{}
	if err := proto.Unmarshal(raw, p); err != nil {
		return Command{}, fmt.Errorf("%w: %w", ErrCommandInvalid, err)
	}
	if strange(p.ProtoReflect()) {
		return Command{}, fmt.Errorf("%w: command of a later release", oci.ErrUnsupported)
	}
	do, err := actionOf(p)
	if err != nil {
		return Command{}, err
	}
	c := Command{Time: fromNanos(p.GetTime()), Do: do}
	return c, c.check()
}

// actionOf is the kind that p carries.
func actionOf(p *catalogpb.Command) (Action, error) {
	switch do := p.GetDo().(type) {
	case *catalogpb.Command_PutManifest:
		return readPutManifest(do.PutManifest)
	case *catalogpb.Command_PutTag:
		d, err := readDigest(do.PutTag.GetDigest())
		return PutTag{do.PutTag.GetRepository(), do.PutTag.GetTag(), d}, err
	case *catalogpb.Command_DeleteTag:
		return DeleteTag{do.DeleteTag.GetRepository(), do.DeleteTag.GetTag()}, nil
	case *catalogpb.Command_DeleteManifest:
		d, err := readDigest(do.DeleteManifest.GetDigest())
		return DeleteManifest{do.DeleteManifest.GetRepository(), d}, err
	case *catalogpb.Command_LinkBlob:
		d, err := readDigest(do.LinkBlob.GetDigest())
		return LinkBlob{do.LinkBlob.GetRepository(), d, do.LinkBlob.GetSize()}, err
	case *catalogpb.Command_UnlinkBlob:
		return readUnlinkBlob(do.UnlinkBlob)
	case *catalogpb.Command_Pin:
		d, err := readDigest(do.Pin.GetDigest())
		return PutPin{do.Pin.GetName(), d, fromNanos(do.Pin.GetUntil())}, err
	case *catalogpb.Command_Unpin:
		return Unpin{do.Unpin.GetName()}, nil
	case *catalogpb.Command_TakeLease:
		d, err := readDigest(do.TakeLease.GetDigest())
		return TakeLease{d, do.TakeLease.GetNode(), time.Duration(do.TakeLease.GetTtl())}, err
	case *catalogpb.Command_ReleaseLease:
		d, err := readDigest(do.ReleaseLease.GetDigest())
		return ReleaseLease{d, do.ReleaseLease.GetNode()}, err
	case *catalogpb.Command_SetSetting:
		return SetSetting{do.SetSetting.GetKey(), do.SetSetting.GetValue()}, nil
	case *catalogpb.Command_SwapSetting:
		return SwapSetting{do.SwapSetting.GetKey(), do.SwapSetting.GetValue(), do.SwapSetting.GetIfIndex()}, nil
	case *catalogpb.Command_Forget:
		return Forget{fromNanos(do.Forget.GetBefore())}, nil
	}
	return nil, fmt.Errorf("%w: it does nothing", ErrCommandInvalid)
}
