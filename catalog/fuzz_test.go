package catalog

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

func FuzzUnmarshalCommand(f *testing.F) {
	for _, c := range samples() {
		f.Add(c.marshal())
	}
	f.Add(later(false))
	f.Add(later(true))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := newMachine()
		m.Apply(&raft.Log{Index: 1, Data: raw})
		c, err := unmarshalCommand(raw)
		if err != nil {
			return
		}
		again, err := unmarshalCommand(c.marshal())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("unmarshalCommand(marshal(%+v)) = %+v, %v", c, again, err)
		}
		if got, want := dump(restored(t, snapshotOf(t, m)).view().s), dump(m.view().s); got != want {
			t.Errorf("after %+v restored:\n%s\nwant\n%s", c, got, want)
		}
	})
}

func FuzzRestore(f *testing.F) {
	m := newMachine()
	f.Add(body(f, m))
	for i, c := range samples() {
		m.Apply(&raft.Log{Index: uint64(i + 1), Data: c.marshal()})
	}
	f.Add(body(f, m))
	f.Fuzz(func(t *testing.T, records []byte) {
		// Random bytes never have the right checksum, so it is put behind them here.
		var b bytes.Buffer
		out := newRecordWriter(&b)
		out.write([]byte(snapshotMagic))
		out.write(records)
		out.write(out.sum.Sum(nil))
		_ = out.w.Flush()
		s, err := readSnapshot(&b)
		if err != nil {
			return
		}
		m := newMachine()
		m.publish(s)
		if got, want := dump(restored(t, snapshotOf(t, m)).view().s), dump(s); got != want {
			t.Errorf("restored again:\n%s\nwant\n%s", got, want)
		}
		for i, c := range samples() {
			m.Apply(&raft.Log{Index: s.index + uint64(i), Data: c.marshal()})
		}
	})
}

// body are the records of a snapshot with their end.
func body(t testing.TB, m *machine) []byte {
	raw := snapshotOf(t, m)
	return raw[len(snapshotMagic) : len(raw)-32]
}

func FuzzUnmarshalResult(f *testing.F) {
	f.Add(Result{Index: 7, Err: &MissingError{"app", samples()[3].Do.(PutManifest).Blobs}}.marshal())
	f.Add(Result{Index: 7, Err: ErrInUse, Holder: "n1", Until: start}.marshal())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := unmarshalResult(raw)
		if err != nil {
			return
		}
		again, err := unmarshalResult(r.marshal())
		if err != nil || again.Index != r.Index || again.Holder != r.Holder || !again.Until.Equal(r.Until) ||
			failureOf(again.Err) != failureOf(r.Err) {
			t.Errorf("unmarshalResult(marshal(%+v)) = %+v, %v", r, again, err)
		}
	})
}

func FuzzReadBatch(f *testing.F) {
	j := &journal{}
	entries := []*raft.Log{{Index: 7, Term: 3, Data: []byte("data"), Extensions: []byte("x"), AppendedAt: start}, {Index: 8}}
	f.Add(bytes.TrimRight(j.record(entries)[journalHead:], "\x00"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		batch, err := readBatch(payload)
		if err != nil || len(payload) == 0 {
			return
		}
		if again := j.record(batch)[journalHead:]; !bytes.HasPrefix(again, payload) {
			t.Errorf("%x is read as %+v and written as %x", payload, batch, again)
		}
	})
}
