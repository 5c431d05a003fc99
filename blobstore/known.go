package blobstore

import (
	"encoding/binary"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/pullonce/pullonce/oci"
)

// A knownBlob is what the index remembers of a whole blob.
type knownBlob struct {
	lastUse int64
	stamp   stamp
	meta    meta
}

func readIndex(db *bolt.DB) (map[oci.Digest]knownBlob, error) {
	known := make(map[oci.Digest]knownBlob)
	err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		b := tx.Bucket([]byte(entryBucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, value []byte) error {
			d, err := oci.ParseDigest(string(key))
			if err != nil {
				return err
			}
			if k, ok := parseKnown(value); ok {
				known[d] = k
			}
			return nil
		})
	})
	return known, err
}

func (k knownBlob) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(k.lastUse))
	b = binary.BigEndian.AppendUint64(b, uint64(k.stamp.ModTime))
	b = binary.BigEndian.AppendUint64(b, uint64(k.stamp.Size))
	return seal(append(b, k.meta.marshal()...))
}

func parseKnown(raw []byte) (knownBlob, bool) {
	raw, ok := unseal(raw)
	if !ok || len(raw) < 24 {
		return knownBlob{}, false
	}
	m, err := parseMeta(raw[24:])
	return knownBlob{
		lastUse: int64(binary.BigEndian.Uint64(raw)),
		stamp:   stamp{ModTime: int64(binary.BigEndian.Uint64(raw[8:])), Size: int64(binary.BigEndian.Uint64(raw[16:]))},
		meta:    m,
	}, err == nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum before data, unseal takes it off and tells whether it held.
func seal(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli)), data...)
}

func unseal(raw []byte) ([]byte, bool) {
	if len(raw) < 4 {
		return nil, false
	}
	return raw[4:], binary.BigEndian.Uint32(raw) == crc32.Checksum(raw[4:], castagnoli)
}
