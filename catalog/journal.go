package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// The file of a journal is cut into blocks. A record begins with a block of its own, so that a write that power cuts
// short can harm no record before it.
const (
	journalBlock = 4096
	journalMagic = 0x70326a31 // "p2j1"
	journalHead  = 4 + 4 + 8 + 8 + 4
)

// errJournal: a record in the middle of a journal is not what was written. Records after it were acknowledged.
var errJournal = errors.New("damaged journal of the log")

// A journal takes batches of entries with one sync each. Its file has its full size from the beginning and is written
// over again and again: a sync then has nothing to put down but the blocks of the batch. Records carry the epoch that
// they were written in; a new epoch makes all that is there void without a write.
//
// On disk a record is: magic (4 bytes), CRC-32C of what follows (4), epoch (8), number within the epoch (8), length of
// the entries (4), and the entries, each with its length (4) before it. Numbers are big-endian.
type journal struct {
	file   *os.File
	noSync bool
	size   int64
	buf    []byte

	epoch  uint64
	number uint64 // of the next record
	offset int64  // of the next record
}

// openJournal opens a journal of a size that is there.
func openJournal(path string, size int64, noSync bool) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal of the log: %w", err)
	}
	st, err := file.Stat()
	if err == nil && st.Size() < size {
		err = fmt.Errorf("%w: it has %d bytes of %d", errJournal, st.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal of the log: %w", err), file.Close())
	}
	return &journal{file: file, noSync: noSync, size: size}, nil
}

// createJournal makes a journal, in place of one that nothing belongs to.
func createJournal(path string, size int64, noSync bool) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make journal of the log: %w", err)
	}
	j := &journal{file: file, noSync: noSync, size: size}
	if err := j.fill(); err != nil {
		return nil, errors.Join(fmt.Errorf("make journal of the log: %w", err), file.Close())
	}
	return j, nil
}

// fill gives the file its size. It is written and not merely extended, since the first write to an extended block
// makes a sync as slow as one of a growing file.
func (j *journal) fill() error {
	zeros := make([]byte, 64<<10)
	for at := int64(0); at < j.size; at += int64(len(zeros)) {
		if _, err := j.file.WriteAt(zeros[:min(int64(len(zeros)), j.size-at)], at); err != nil {
			return err
		}
	}
	if j.noSync {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(j.file.Name()))
}

// begin starts an epoch with an empty journal.
func (j *journal) begin(epoch uint64) { j.epoch, j.number, j.offset = epoch, 0, 0 }

// fits tells whether the entries find room in what is left of the epoch.
func (j *journal) fits(entries []*raft.Log) bool {
	size := int64(journalHead)
	for _, l := range entries {
		size += 4 + int64(entrySize(l))
	}
	return j.offset+size <= j.size
}

// write puts down a batch. When it returns nil the batch is on disk; after an error nobody knows, and the next write
// has to be in a new epoch.
func (j *journal) write(entries []*raft.Log) error {
	b := j.record(entries)
	_, err := j.file.WriteAt(b, j.offset)
	if err == nil && !j.noSync {
		err = syncData(j.file)
	}
	if err != nil {
		return fmt.Errorf("write journal of the log: %w", err)
	}
	j.number++
	j.offset += int64(len(b))
	return nil
}

// record is a batch as it stands on disk, filled up to whole blocks.
func (j *journal) record(entries []*raft.Log) []byte {
	b := binary.BigEndian.AppendUint32(j.buf[:0], journalMagic)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, j.epoch)
	b = binary.BigEndian.AppendUint64(b, j.number)
	b = binary.BigEndian.AppendUint32(b, 0)
	for _, l := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(entrySize(l)))
		b = appendEntry(b, l)
	}
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)-journalHead))
	binary.BigEndian.PutUint32(b[4:], castagnoli(b[8:]))
	b = append(b, make([]byte, blocks(len(b))-len(b))...)
	j.buf = b
	if cap(b) > 1<<20 {
		j.buf = nil
	}
	return b
}

// blocks is n rounded up to whole blocks.
func blocks(n int) int { return (n + journalBlock - 1) / journalBlock * journalBlock }

// replay reads all entries of an epoch, after which the journal goes on. What a crash left of a last record that was
// never acknowledged is passed over.
func (j *journal) replay(epoch uint64) ([]*raft.Log, error) {
	j.begin(epoch)
	var entries []*raft.Log
	for {
		payload, err := j.read(j.offset, j.number)
		if err != nil {
			return nil, err
		}
		if payload == nil {
			return entries, j.checkRest()
		}
		batch, err := readBatch(payload)
		if err != nil {
			return nil, err
		}
		entries = append(entries, batch...)
		j.number++
		j.offset += int64(blocks(journalHead + len(payload)))
	}
}

// read is the payload of the record at an offset, or nil when none of this epoch and number is there.
func (j *journal) read(offset int64, number uint64) ([]byte, error) {
	if offset+journalHead > j.size {
		return nil, nil
	}
	head, err := j.bytes(offset, journalHead)
	if err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(head[24:]))
	if binary.BigEndian.Uint32(head) != journalMagic || binary.BigEndian.Uint64(head[8:]) != j.epoch ||
		binary.BigEndian.Uint64(head[16:]) != number || length == 0 || offset+journalHead+length > j.size {
		return nil, nil
	}
	record, err := j.bytes(offset, journalHead+length)
	if err != nil || castagnoli(record[8:]) != binary.BigEndian.Uint32(record[4:]) {
		return nil, err
	}
	return record[journalHead:], nil
}

func (j *journal) bytes(offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(j.file, offset, n), b); err != nil {
		return nil, fmt.Errorf("read journal of the log: %w", err)
	}
	return b, nil
}

// checkRest looks for records of the epoch behind the end. A record is only written when the one before it is on disk,
// so that one behind the end means that what lies between was damaged since.
func (j *journal) checkRest() error {
	head := make([]byte, journalHead)
	for at := j.offset; at+journalHead <= j.size; at += journalBlock {
		if _, err := j.file.ReadAt(head, at); err != nil {
			return fmt.Errorf("read journal of the log: %w", err)
		}
		if binary.BigEndian.Uint32(head) != journalMagic || binary.BigEndian.Uint64(head[8:]) != j.epoch {
			continue
		}
		number := binary.BigEndian.Uint64(head[16:])
		if number <= j.number {
			continue
		}
		if payload, err := j.read(at, number); err != nil || payload != nil {
			return errors.Join(fmt.Errorf("%w: record %d is not to be read, %d is there", errJournal, j.number, number), err)
		}
	}
	return nil
}

func readBatch(payload []byte) ([]*raft.Log, error) {
	var batch []*raft.Log
	for len(payload) > 0 {
		if len(payload) < 4 {
			return nil, errJournal
		}
		size := int64(binary.BigEndian.Uint32(payload))
		if size > int64(len(payload)-4) {
			return nil, errJournal
		}
		l := &raft.Log{}
		if err := readEntry(payload[4:4+size], l); err != nil {
			return nil, err
		}
		batch = append(batch, l)
		payload = payload[4+size:]
	}
	return batch, nil
}

func (j *journal) close() error { return j.file.Close() }
