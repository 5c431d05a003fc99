package blobstore_test

import (
	"regexp"
	"testing"
)

var randomUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestUploadsAreNamedByRandomUUIDs(t *testing.T) {
	s := openStore(t, nil)
	seen := map[string]bool{}
	for range 20 {
		u := startUpload(t, s)
		if id := u.ID(); !randomUUID.MatchString(id) || seen[id] {
			t.Errorf("id of an upload = %q; want a random UUID of its own", id)
		}
		seen[u.ID()] = true
		if err := u.Cancel(); err != nil {
			t.Errorf("Cancel = %v; want nil", err)
		}
	}
}
