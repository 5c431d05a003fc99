package catalog

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Set keeps a value of raft's own: the term and the vote. When it returns nil the value is on disk.
func (s *logStore) Set(name, value []byte) error {
	err := s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(stableBucket)).Put(name, value)
	})
	if err != nil {
		return fmt.Errorf("store %s of raft: %w", name, err)
	}
	return nil
}

// Get is a value that Set has kept, nil when there is none.
func (s *logStore) Get(name []byte) ([]byte, error) {
	var value []byte
	err := s.db.View(func(tx *bolt.Tx) error {
		value = copied(tx.Bucket([]byte(stableBucket)).Get(name))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of raft: %w", name, err)
	}
	return value, nil
}

// SetUint64 is Set of a number.
func (s *logStore) SetUint64(name []byte, value uint64) error { return s.Set(name, indexKey(value)) }

// GetUint64 is a number that SetUint64 has kept, 0 when there is none.
func (s *logStore) GetUint64(name []byte) (uint64, error) {
	value, err := s.Get(name)
	return keyIndex(value), err
}
