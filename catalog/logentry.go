package catalog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// entryVersion is the first byte of an entry of the log on disk. Then come term and index (8 bytes each), the type
// (1), the time it was appended at (8), the length of the extensions (4), extensions, data, and the CRC-32C of all of
// that (4). Numbers are big-endian.
const (
	entryVersion = 1
	entryHead    = 1 + 8 + 8 + 1 + 8 + 4
	entryMin     = entryHead + 4
)

// errEntry: the bytes are no entry of the log, or not what was written.
var errEntry = errors.New("damaged entry of the log")

func castagnoli(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

func entrySize(l *raft.Log) int { return entryMin + len(l.Extensions) + len(l.Data) }

// appendEntry appends an entry as it stands on disk.
func appendEntry(b []byte, l *raft.Log) []byte {
	start := len(b)
	b = append(b, entryVersion)
	b = binary.BigEndian.AppendUint64(b, l.Term)
	b = binary.BigEndian.AppendUint64(b, l.Index)
	b = append(b, byte(l.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(toNanos(l.AppendedAt)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Extensions)))
	b = append(b, l.Extensions...)
	b = append(b, l.Data...)
	return binary.BigEndian.AppendUint32(b, castagnoli(b[start:]))
}

// readEntry reads what appendEntry wrote into l, which keeps nothing of b.
func readEntry(b []byte, l *raft.Log) error {
	if len(b) < entryMin || b[0] != entryVersion {
		return errEntry
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if castagnoli(body) != sum {
		return errEntry
	}
	extensions := int64(binary.BigEndian.Uint32(b[26:]))
	rest := body[entryHead:]
	if extensions > int64(len(rest)) {
		return errEntry
	}
	*l = raft.Log{
		Term:       binary.BigEndian.Uint64(b[1:]),
		Index:      binary.BigEndian.Uint64(b[9:]),
		Type:       raft.LogType(b[17]),
		AppendedAt: appendedAt(int64(binary.BigEndian.Uint64(b[18:]))),
		Extensions: copied(rest[:extensions]),
		Data:       copied(rest[extensions:]),
	}
	return nil
}

func appendedAt(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

// copied is a copy of b, or nil when it is empty.
func copied(b []byte) []byte { return append([]byte(nil), b...) }
