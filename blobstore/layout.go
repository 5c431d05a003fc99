package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// Names inside the store's directory.
const (
	lockName   = "lock"
	indexName  = "index.db"
	blobsDir   = "blobs"
	partialDir = "partial"
	uploadsDir = "uploads"
	metaSuffix = ".meta"  // sidecar beside a whole blob
	dataSuffix = ".data"  // bytes of a partial blob or an upload
	infoSuffix = ".state" // what is known of those bytes
	tempSuffix = ".tmp"   // a file that is not yet in its place
)

func blobDir(d oci.Digest) string  { return path.Join(blobsDir, d.Algorithm(), d.Hex()[:2]) }
func blobPath(d oci.Digest) string { return path.Join(blobDir(d), d.Hex()) }
func metaPath(d oci.Digest) string { return blobPath(d) + metaSuffix }

func partialPath(d oci.Digest, suffix string) string {
	return path.Join(partialDir, d.Algorithm()+"-"+d.Hex()+suffix)
}

// partialDigest reads the digest out of the name of a file of a partial blob.
func partialDigest(name, suffix string) (oci.Digest, bool) {
	name, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return oci.Digest{}, false
	}
	d, err := oci.ParseDigest(strings.Replace(name, "-", ":", 1))
	return d, err == nil
}

// makeDirs makes the directory name with its parents and syncs what it changed, so that a file that is synced in there
// is found after a power cut.
func (s *Store) makeDirs(name string) error {
	if _, err := s.root.Stat(name); err == nil {
		return nil
	}
	parent := path.Dir(name)
	if parent != "." {
		if err := s.makeDirs(parent); err != nil {
			return err
		}
	}
	if err := s.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(parent)
}

func (s *Store) syncDir(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

// replace puts data at name in one step: a reader, or a node after a crash, finds the old or the new content whole.
// The directory is not synced.
func (s *Store) replace(name string, data []byte, durable bool) error {
	temp := name + tempSuffix
	f, err := s.disk.open(s.root, temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	err = s.disk.writeAt(f, 0, data)
	if err == nil && durable {
		err = s.disk.syncData(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.disk.rename(s.root, temp, name)
	}
	if err != nil {
		_ = s.root.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// remove unlinks name; a file that is gone already is no error.
func (s *Store) remove(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
