package blobstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// uploadMagic begins the state file of an upload; another layout gets another number.
const uploadMagic = "pullonce upload 1\n"

// An uploadState is what is kept on disk beside the bytes of an upload. The bytes that the tally has seen were on disk,
// synced, before the state was written; what the file has beyond them is cut off.
type uploadState struct {
	repo             oci.Repository
	created, lastUse time.Time
	tally            *piece.Tally
}

type uploadFacts struct {
	Repository oci.Repository `json:"repository"`
	Created    time.Time      `json:"created"`
	LastUse    time.Time      `json:"last_use"`
}

func (st uploadState) marshal() []byte {
	facts, err := json.Marshal(uploadFacts{st.repo, st.created, st.lastUse})
	if err != nil {
		panic(fmt.Sprintf("blobstore: state of an upload not written: %v", err)) // strings and times only
	}
	tally, err := st.tally.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("blobstore: state of an upload not written: %v", err)) // memory only
	}
	return append([]byte(uploadMagic), seal(append(appendPart(nil, facts), tally...))...)
}

// parseUploadState reads a state file, of which a crash or a bad disk may have left anything.
func parseUploadState(raw []byte) (uploadState, error) {
	raw, ok := bytes.CutPrefix(raw, []byte(uploadMagic))
	if !ok {
		return uploadState{}, fmt.Errorf("state of an upload: no magic")
	}
	if raw, ok = unseal(raw); !ok {
		return uploadState{}, fmt.Errorf("state of an upload: checksum does not hold")
	}
	rawFacts, rawTally, ok := cutPart(raw)
	if !ok {
		return uploadState{}, fmt.Errorf("state of an upload cut short")
	}
	var facts uploadFacts
	if err := json.Unmarshal(rawFacts, &facts); err != nil {
		return uploadState{}, fmt.Errorf("state of an upload: %w", err)
	}
	tally, err := piece.UnmarshalTally(rawTally)
	if err != nil {
		return uploadState{}, fmt.Errorf("state of an upload: %w", err)
	}
	return uploadState{repo: facts.Repository, created: facts.Created, lastUse: facts.LastUse, tally: tally}, nil
}

func (s *Store) readUploadState(id string) (uploadState, error) {
	raw, err := s.readFile(uploadPath(id, infoSuffix), maxStateBytes)
	if err != nil {
		return uploadState{}, err
	}
	return parseUploadState(raw)
}

// writeState puts down where u stands.
func (u *Upload) writeState(durable bool) error {
	st := uploadState{repo: u.repo, created: u.created, lastUse: time.Now(), tally: u.tally}
	return u.store.replace(uploadPath(u.ID(), infoSuffix), st.marshal(), durable)
}

// restore has u stand where its state file says.
func (u *Upload) restore() error {
	st, err := u.store.readUploadState(u.ID())
	if err != nil {
		return err
	}
	if err := u.store.disk.truncate(u.file, st.tally.Size()); err != nil {
		return err
	}
	u.repo, u.created, u.tally = st.repo, st.created, st.tally
	u.saved = st.tally.Size()
	u.moveTo(u.saved)
	u.store.uploads.set(u.session, u.saved, u.saved)
	return nil
}

// save puts the bytes down and then the state, so that a power cut never leaves a state without its bytes. When the
// disk fails, u stands where it was saved the last time: after a failed sync the kernel may have dropped any byte.
func (u *Upload) save() error {
	u.savedAt = time.Now()
	if u.Offset() == u.saved {
		return nil
	}
	if u.session.guest {
		return u.saveGuest()
	}
	err := u.store.disk.syncData(u.file)
	if err == nil {
		err = u.writeState(true)
	}
	if err == nil && !u.durable {
		err = u.store.syncDir(uploadsDir)
	}
	if err != nil {
		if restoreErr := u.restore(); restoreErr != nil {
			u.broken = restoreErr
		}
		return err
	}
	u.saved, u.durable = u.Offset(), true
	return nil
}

// saveGuest puts the bytes down, of which no state is kept: whoever sends them begins anew.
func (u *Upload) saveGuest() error {
	if u.broken = u.store.disk.syncData(u.file); u.broken == nil {
		u.saved = u.Offset()
	}
	return u.broken
}
