package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// What is kept in the directory. The state is written before the certificate that depends on it, and the certificate last:
// a node that has node.crt is a member.
const (
	stateFile  = "state.json" // State
	nodeCert   = "node.crt"   // this node's certificate, PEM
	nodeKey    = "node.key"   // its key, PEM; it stays the same for the node's life
	sealFile   = "seal.key"   // what the farm's secrets are sealed with: voters only
	issuerSeal = "ca.sealed"  // the authority, sealed: voters only
	caCert     = "ca.crt"     // the authorities as PEM, for people and their tools; never read

	registryFile = "registry.pem" // what the registry shows to its clients: its key and its certificate, PEM
)

// maxFile bounds what is read of one file.
const maxFile = 16 << 20

// A disk is the directory that trust is kept in. Nobody but its user may look into it.
type disk struct{ dir string }

// tighten takes others' rights to the directory away, if there is one.
func (d disk) tighten() error {
	info, err := os.Stat(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err == nil && info.Mode().Perm() != 0o700 {
		err = os.Chmod(d.dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("look after the directory %s: %w", d.dir, err)
	}
	return nil
}

// read is a file whole; nil when there is none.
func (d disk) read(name string) ([]byte, error) {
	raw, err := readFile(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// readFile reads a file of reasonable size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("read %s: %d bytes: want at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// write keeps a file so that a crash leaves the old one or the new one, and makes the directory if need be.
func (d disk) write(name string, data []byte) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of trust: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(d.dir, name), data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return d.sync()
}

// remove takes a file away; it need not be there.
func (d disk) remove(name string) error {
	err := os.Remove(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return d.sync()
}

// sync makes renames in the directory last.
func (d disk) sync() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
