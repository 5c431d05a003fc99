package blobstore

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPartsAreWrittenOneAfterTheOther(t *testing.T) {
	want := make([]byte, 100_003)
	for i := range want {
		want[i] = byte(i * 31)
	}
	for _, size := range []int{1, 37, 4096, len(want)} { // of a part; the first makes more than the kernel takes at once
		parts := slices.Collect(slices.Chunk(want[:min(len(want), 3000*size)], size))
		path := filepath.Join(t.TempDir(), "data")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := (osDisk{}).writeAt(f, 10, parts...); err != nil {
			t.Fatalf("writeAt of %d parts = %v", len(parts), err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got[10:], slices.Concat(parts...)) {
			t.Errorf("%d parts of %d bytes were not written as they follow (%v)", len(parts), size, err)
		}
	}
}

func TestAfterKeepsWhatTheCallerHas(t *testing.T) {
	parts := [][]byte{[]byte("abc"), []byte("de"), []byte("f")}
	for n, want := range []string{"abcdef", "bcdef", "cdef", "def", "ef", "f", ""} {
		if got := string(slices.Concat(after(parts, n)...)); got != want {
			t.Errorf("after(parts, %d) = %q; want %q", n, got, want)
		}
	}
	if got := string(slices.Concat(parts...)); got != "abcdef" {
		t.Errorf("the caller's parts are %q after that; want them unchanged", got)
	}
}
