package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLayersAreFilledToTheirSize(t *testing.T) {
	dir := t.TempDir()
	var files []candidate
	for name, size := range map[string]int64{"a": 70, "b": 60, "c": 30, "d": 500} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, candidate{path, size})
	}
	files = append(files, candidate{filepath.Join(dir, "gone"), 40})
	got := share(files, []int64{100, 60, 10})
	for i, want := range []content{{files: []string{"a", "c"}, room: 0}, {files: []string{"b"}, room: 0}, {room: negligible + 1}} {
		if got[i].room != want.room || len(got[i].files) != len(want.files) {
			t.Fatalf("layer %d = %+v; want %+v", i, got[i], want)
		}
		for n, name := range want.files {
			if filepath.Base(got[i].files[n]) != name {
				t.Errorf("layer %d = %+v; want %+v", i, got[i], want)
			}
		}
	}
}

func TestAMachineWithoutFilesGetsRandomBytes(t *testing.T) {
	t.Setenv("PATH", "")
	image, err := makeImage(t.Context(), t.TempDir(), []int64{300 << 10, 40 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if n := image.UniqueBytes(); len(image.Layers) != 2 || n < 300<<10 {
		t.Errorf("image has %d layers and %d bytes; want 2 layers and at least %d", len(image.Layers), n, 300<<10)
	}
}
