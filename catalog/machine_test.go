package catalog

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pullonce/pullonce/oci"
)

var _ raft.BatchingFSM = (*machine)(nil)

func TestCommandsSurviveTheWire(t *testing.T) {
	for _, c := range samples() {
		got, err := unmarshalCommand(c.marshal())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("unmarshalCommand(marshal(%+v)) = %+v, %v", c, got, err)
		}
	}
}

func TestCommandsThatNoStateMayHoldAreRefused(t *testing.T) {
	long := strings.Repeat("x", maxNameBytes+1)
	many := image("app", "m")
	for range 20_000 {
		many.Blobs = append(many.Blobs, blob("b"))
	}
	for _, c := range []struct {
		name string
		do   Action
		want error
	}{
		{"nothing", nil, ErrCommandInvalid},
		{"no repository", PutTag{"", "1", blob("m")}, ErrCommandInvalid},
		{"long repository", LinkBlob{long, blob("m"), 1}, ErrCommandInvalid},
		{"repository that is no text", DeleteManifest{"\xff", blob("m")}, ErrCommandInvalid},
		{"no digest", LinkBlob{"app", oci.Digest{}, 1}, ErrCommandInvalid},
		{"negative size", LinkBlob{"app", blob("m"), -1}, ErrCommandInvalid},
		{"bad tag", PutTag{"app", "a/b", blob("m")}, oci.ErrTagInvalid},
		{"bad tag to delete", DeleteTag{"app", ""}, oci.ErrTagInvalid},
		{"no manifest", PutManifest{Repository: "app"}, ErrCommandInvalid},
		{"a million descriptors", many, oci.ErrTooLarge},
		{"lease without end", TakeLease{blob("m"), "n", maxLease + 1}, ErrCommandInvalid},
		{"lease for nothing", TakeLease{blob("m"), "n", 0}, ErrCommandInvalid},
		{"large setting", SetSetting{"k", make([]byte, maxSettingBytes+1)}, oci.ErrTooLarge},
		{"large setting to swap", SwapSetting{"k", make([]byte, maxSettingBytes+1), 1}, oci.ErrTooLarge},
		{"setting without a key", SwapSetting{"", []byte{1}, 0}, ErrCommandInvalid},
	} {
		if err := (Command{Do: c.do}).check(); !errors.Is(err, c.want) {
			t.Errorf("%s: check = %v; want %v", c.name, err, c.want)
		}
	}
}

func TestAnEntryThatIsNoCommandIsPassedOver(t *testing.T) {
	s := newScript(t)
	s.must(LinkBlob{"app", blob("x"), 1})
	before := s.view()
	s.index++
	r := s.Apply(&raft.Log{Index: s.index, Data: []byte("\xffno command")}).(Result)
	if !errors.Is(r.Err, ErrCommandInvalid) || r.Index != s.index {
		t.Errorf("Apply = %+v; want ErrCommandInvalid", r)
	}
	if v := s.view(); v.Index() != s.index || before.Index() != s.index-1 || s.health() != nil {
		t.Errorf("the machine stands at %d, health %v; want %d, nil", v.Index(), s.health(), s.index)
	}
	s.must(LinkBlob{"app", blob("y"), 1})
}

// later is a command as a later release may write it.
func later(inside bool) []byte {
	raw := Command{start, Unpin{"nginx"}}.marshal()
	if inside {
		unpin := protowire.AppendTag(nil, 1, protowire.BytesType)
		unpin = protowire.AppendString(unpin, "nginx")
		unpin = protowire.AppendTag(unpin, 99, protowire.VarintType)
		unpin = protowire.AppendVarint(unpin, 1)
		return protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), unpin)
	}
	return protowire.AppendBytes(protowire.AppendTag(raw, 99, protowire.BytesType), nil)
}

func TestAMachineStopsAtACommandOfALaterRelease(t *testing.T) {
	for _, inside := range []bool{false, true} {
		s := newScript(t)
		s.must(LinkBlob{"app", blob("x"), 1})
		s.index++
		r := s.Apply(&raft.Log{Index: s.index, Data: later(inside)}).(Result)
		if !errors.Is(r.Err, oci.ErrUnsupported) || !errors.Is(s.health(), oci.ErrUnsupported) {
			t.Errorf("Apply = %v, health %v; want ErrUnsupported", r.Err, s.health())
		}
		if r := s.do(LinkBlob{"app", blob("y"), 1}); !errors.Is(r.Err, oci.ErrUnsupported) {
			t.Errorf("the command after it: %v; want ErrUnsupported", r.Err)
		}
		if v := s.view(); v.Index() != 1 || v.Linked("app", blob("y")) {
			t.Errorf("the machine stands at %d; want 1", v.Index())
		}
		if _, err := s.Snapshot(); !errors.Is(err, oci.ErrUnsupported) {
			t.Errorf("Snapshot: %v; want ErrUnsupported, or the entries would be lost", err)
		}
	}
}

func TestASnapshotIsReadWholeOrNotAtAll(t *testing.T) {
	m := newMachine()
	for i, c := range samples() {
		m.Apply(&raft.Log{Index: uint64(i + 1), Data: c.marshal()})
	}
	raw := snapshotOf(t, m)
	s := newScript(t)
	s.must(LinkBlob{"own", blob("x"), 1})
	want := dump(s.view().s)
	refuse := func(what string, raw []byte, condition error) {
		t.Helper()
		if err := s.Restore(io.NopCloser(bytes.NewReader(raw))); !errors.Is(err, condition) {
			t.Fatalf("Restore of a snapshot %s: %v; want %v", what, err, condition)
		}
		if got := dump(s.view().s); got != want {
			t.Fatalf("a snapshot %s changed the state", what)
		}
	}
	for n := range raw {
		refuse("cut short", raw[:n], ErrSnapshotInvalid)
		flipped := bytes.Clone(raw)
		flipped[n] ^= 0x20
		condition := ErrSnapshotInvalid
		if n == len(snapshotMagic)-1 {
			condition = oci.ErrUnsupported
		} else if err := newMachine().Restore(io.NopCloser(bytes.NewReader(flipped))); errors.Is(err, oci.ErrUnsupported) {
			condition = oci.ErrUnsupported // the flip made a field of a later release
		}
		refuse("with a flipped bit", flipped, condition)
	}
	refuse("with more behind", append(bytes.Clone(raw), 0), ErrSnapshotInvalid)
}

func TestResultsSurviveTheWire(t *testing.T) {
	missing := &MissingError{"app", []oci.Digest{blob("a"), blob("b")}}
	for _, err := range []error{
		nil, missing, oci.ErrNotFound, ErrInUse, ErrChanged, oci.ErrUnsupported, oci.ErrTooLarge, ErrCommandInvalid,
	} {
		r := Result{Index: 7, Err: err, Holder: "n1", Until: start}
		got, readErr := unmarshalResult(r.marshal())
		if readErr != nil || got.Index != 7 || got.Holder != "n1" || !got.Until.Equal(start) || (got.Err == nil) != (err == nil) {
			t.Errorf("unmarshalResult(marshal(%+v)) = %+v, %v", r, got, readErr)
			continue
		}
		if err != nil && (got.Err.Error() != err.Error() || failureOf(got.Err) != failureOf(err)) {
			t.Errorf("the error %v came as %v", err, got.Err)
		}
		if m, ok := errors.AsType[*MissingError](got.Err); errors.Is(err, missing) != ok || ok && !reflect.DeepEqual(m, missing) {
			t.Errorf("the error %v came as %v", err, got.Err)
		}
	}
}
