package catalog

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/oci"
)

var update = flag.Bool("update", false, "write the golden files anew (nodes then cannot read what is on their disks)")

// samples are commands of all kinds with all fields set.
func samples() []Command {
	put := PutManifest{
		Repository: "team/app",
		Descriptor: oci.Descriptor{
			MediaType: oci.MediaTypeOCIManifest, Digest: blob("manifest"), Size: 1234, ArtifactType: "application/spdx",
		},
		Annotations: map[string]string{"b": "2", "a": "1", "c": ""},
		Subject:     blob("subject"),
		Blobs:       []oci.Digest{blob("config"), oci.FromBytes(oci.SHA512, []byte("layer"))},
		Tags:        []string{"1.0", "latest"},
	}
	actions := []Action{
		LinkBlob{"team/app", blob("config"), 1 << 40},
		LinkBlob{"team/app", oci.FromBytes(oci.SHA512, []byte("layer")), 5},
		LinkBlob{"team/app", blob("not used"), 0},
		put,
		PutTag{"team/app", "2.0", blob("manifest")},
		DeleteTag{"team/app", "1.0"},
		image("team/app", "other"),
		DeleteManifest{"team/app", blob("other")},
		UnlinkBlob{"team/app", blob("not used"), true, 3},
		PutPin{"docker.io/library/nginx:1", blob("pinned"), start.Add(time.Hour)},
		PutPin{"docker.io/library/nginx:2", blob("pinned"), time.Time{}},
		Unpin{"docker.io/library/nginx:2"},
		TakeLease{blob("leased"), "node-1", 30 * time.Second},
		TakeLease{blob("given back"), "node-1", 30 * time.Second},
		ReleaseLease{blob("given back"), "node-1"},
		SetSetting{"copies", []byte{3}},
		Forget{start.Add(2 * time.Second)},
		SwapSetting{"trust/token", []byte{1}, 0},
		SwapSetting{"trust/token", []byte{2}, 18},
	}
	var commands []Command
	for i, a := range actions {
		commands = append(commands, Command{start.Add(time.Duration(i) * time.Second), a})
	}
	return commands
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: what is written differs from what was written before:\n%s\nwant\n%s", name, got, want)
	}
}

func TestCommandsAreWrittenAsBefore(t *testing.T) {
	var b bytes.Buffer
	for _, c := range samples() {
		fmt.Fprintf(&b, "%T %x\n", c.Do, c.marshal())
	}
	golden(t, "commands.golden", b.Bytes())
}

func TestASnapshotIsWrittenAsBeforeAndReadAgain(t *testing.T) {
	m := newMachine()
	for i, c := range samples() {
		if r := m.Apply(&raft.Log{Index: uint64(i + 1), Data: c.marshal()}).(Result); r.Err != nil {
			t.Fatalf("%+v: %v", c.Do, r.Err)
		}
	}
	raw := snapshotOf(t, m)
	golden(t, "snapshot.golden", []byte(hex.Dump(raw)))
	if got, want := dump(restored(t, raw).view().s), dump(m.view().s); got != want {
		t.Errorf("restored:\n%s\nwant\n%s", got, want)
	}
}

func TestEntriesOfTheLogAreWrittenAsBefore(t *testing.T) {
	entries := []*raft.Log{
		{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: start},
		{Index: 8, Term: 3, Type: raft.LogNoop},
	}
	j := &journal{}
	j.begin(5)
	golden(t, "journal.golden", []byte(hex.Dump(j.record(entries))))
}
