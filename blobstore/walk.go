package blobstore

import (
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"strings"

	"github.com/pullonce/pullonce/oci"
)

// walkBlobs makes the whole blobs on disk known. What the index remembers of a blob is taken only when the sidecar is
// the one that it read; all else is read from the files, and the index follows.
func (s *Store) walkBlobs(known map[oci.Digest]knownBlob) error {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		dirs, err := s.list(path.Join(blobsDir, algorithm))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if dir.IsDir() {
				if err := s.walkBlobDir(algorithm, dir.Name(), known); err != nil {
					return err
				}
			}
		}
	}
	for d := range known {
		if _, err := s.entry(d); err != nil {
			s.index.removeEntry(d)
		}
	}
	return nil
}

// list is the content of a directory; one that is missing is empty.
func (s *Store) list(name string) ([]fs.DirEntry, error) {
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.ReadDir(-1)
}

func (s *Store) walkBlobDir(algorithm, dir string, known map[oci.Digest]knownBlob) error {
	files, err := s.list(path.Join(blobsDir, algorithm, dir))
	if err != nil {
		return err
	}
	sidecars := make(map[string]fs.DirEntry)
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), metaSuffix); ok {
			sidecars[name] = f
		}
	}
	for _, f := range files {
		name := f.Name()
		d, err := oci.ParseDigest(algorithm + ":" + name)
		switch {
		case err == nil && f.Type().IsRegular() && strings.HasPrefix(name, dir):
			s.adoptFile(d, f, sidecars[name], known)
			delete(sidecars, name)
		case strings.HasSuffix(name, tempSuffix):
			s.clean(path.Join(blobsDir, algorithm, dir, name))
		}
	}
	for name := range sidecars { // of a commit that did not get to its blob, or of a removal that did
		s.clean(path.Join(blobsDir, algorithm, dir, name+metaSuffix))
	}
	return nil
}

// adoptFile makes one blob file known.
func (s *Store) adoptFile(d oci.Digest, file, sidecar fs.DirEntry, known map[oci.Digest]knownBlob) {
	info, err := file.Info()
	if err != nil {
		return
	}
	k, remembered := known[d]
	e := newEntry(d, meta{Size: info.Size()})
	e.lastUse.Store(info.ModTime().Unix())
	if remembered {
		e.lastUse.Store(k.lastUse)
	}
	if sidecar != nil {
		e.stamp = s.stampOf(metaPath(d))
		if remembered && k.stamp == e.stamp {
			e.meta = k.meta
		} else if m, err := s.readMeta(d); err == nil {
			e.meta = m
		}
	}
	if e.meta.Size != info.Size() { // never so by a crash: the bytes were synced before they got this name
		s.log.Warn("blob of wrong size removed", slog.String("digest", d.String()), slog.Int64("size", info.Size()))
		s.clean(blobPath(d))
		s.clean(metaPath(d))
		return
	}
	s.mu.Lock()
	s.entries[d] = e
	s.bytes += info.Size()
	s.mu.Unlock()
	s.sort(e)
	if !remembered || k.stamp != e.stamp {
		s.index.putEntry(e)
	}
}

func (s *Store) readMeta(d oci.Digest) (meta, error) {
	raw, err := s.readFile(metaPath(d), maxMetaBytes)
	if err != nil {
		return meta{}, err
	}
	return parseMeta(raw)
}

// walkPartials makes the partial blobs on disk known. A state beside a whole blob has kept its piece list for the
// index; what is not a partial blob's is cleaned.
func (s *Store) walkPartials() error {
	files, err := s.list(partialDir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if d, ok := partialDigest(f.Name(), infoSuffix); ok {
			s.walkState(d)
		}
	}
	for _, f := range files {
		if d, ok := partialDigest(f.Name(), dataSuffix); ok && s.idle[d] != nil {
			continue
		}
		if _, ok := partialDigest(f.Name(), infoSuffix); !ok {
			s.clean(path.Join(partialDir, f.Name()))
		}
	}
	return nil
}

func (s *Store) walkState(d oci.Digest) {
	st, err := s.readState(d)
	if e, entryErr := s.entry(d); entryErr == nil {
		if l := st.list; err == nil && l.Known() == l.Count() && l.Size() == e.size() && s.index.list(d, l.Size()) == nil {
			s.index.putList(l)
		}
		s.index.adoptable(d) // the state may go once the index has the list
		return
	}
	info, statErr := s.root.Stat(partialPath(d, dataSuffix))
	if err != nil || statErr != nil || info.Size() != st.list.Size() {
		s.clean(partialPath(d, infoSuffix))
		return
	}
	s.setIdle(d, st)
	s.idle[d].lastUse = info.ModTime()
}

func (s *Store) clean(name string) {
	if err := s.remove(name); err != nil {
		s.log.Warn("leftover not removed", slog.String("file", name), slog.String("error", err.Error()))
	}
}
