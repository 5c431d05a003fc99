package catalog

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// An identity is what a data directory remembers of itself beside raft's own state. It is written whole, and synced,
// before anybody is told of what it says.
type identity struct {
	// Raft is the replica's name. A directory that was emptied gets another one, and so does one whose replica was
	// given up: a name must never vote twice with two memories.
	Raft string `json:"raft"`
	// Catalog is the catalog that the node belongs to or has heard of.
	Catalog string `json:"catalog,omitempty"`
	// Replica says that raft's state here is of Catalog.
	Replica bool `json:"replica,omitempty"`
	// Founded says that this replica has begun the catalog: it must not do so again, even if its log is gone.
	Founded bool `json:"founded,omitempty"`
	// What the acceptor has promised and accepted.
	Promised       ballot `json:"promised,omitzero"`
	AcceptedBallot ballot `json:"accepted_ballot,omitzero"`
	Accepted       value  `json:"accepted,omitzero"`
}

const identityFile = "catalog.json"

// newName is a name that nobody has had before.
func newName() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// loadIdentity reads the directory's identity; a new directory gets one, which is written.
func loadIdentity(dir string, sync bool) (identity, error) {
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		id := identity{Raft: newName()}
		return id, id.save(dir, sync)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read who the replica is: %w", err)
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil || id.Raft == "" {
		return identity{}, fmt.Errorf("%s is damaged; with an empty directory the node joins anew: %w", identityFile, err)
	}
	return id, nil
}

// save writes id so that a crash leaves the old one or the new one.
func (id identity) save(dir string, sync bool) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, identityFile)
	if !sync {
		return os.WriteFile(path, raw, 0o600)
	}
	if err := renameio.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write who the replica is: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
