package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

const (
	keyBytes = 32 // AES-256
	// maxKeys bounds what junk costs: it is tried with every key. A rotation needs two.
	maxKeys = 4
)

// How the library seals a message: the version, a nonce, and what AES-GCM makes of the rest.
const (
	sealVersion = 1
	nonceBytes  = 12
	tagBytes    = 16
)

// keys are what gossip is sealed with. The library has them too, for what it sends and once more for what it gets; here
// they keep from it what is sealed with none of them.
type keys struct {
	ring *memberlist.Keyring

	mu     sync.Mutex                    // one change at a time
	opener atomic.Pointer[[]cipher.AEAD] // nil or empty: gossip is in the clear
}

func checkKeys(list [][]byte) error {
	if len(list) > maxKeys {
		return fmt.Errorf("%d keys: want at most %d", len(list), maxKeys)
	}
	for _, key := range list {
		if len(key) != keyBytes {
			return fmt.Errorf("key of %d bytes: want %d", len(key), keyBytes)
		}
	}
	return nil
}

// newKeys takes a list that was checked.
func newKeys(list [][]byte) (*keys, error) {
	ring, err := memberlist.NewKeyring(nil, nil)
	if err != nil {
		return nil, err
	}
	k := &keys{ring: ring}
	if len(list) > 0 {
		err = k.set(list)
	}
	return k, err
}

// set puts these keys in the place of those that there were. What is sealed with a key of both goes through meanwhile.
func (k *keys) set(list [][]byte) error {
	openers, err := openersOf(list)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range list {
		if err := k.ring.AddKey(key); err != nil {
			return err
		}
	}
	k.opener.Store(&openers)
	if err := k.ring.UseKey(list[0]); err != nil {
		return err
	}
	return k.drop(list)
}

// drop takes from the library's ring what is not in list, one from the end after the other: anywhere else the library
// (memberlist v0.7.0) would move keys in memory that others are reading. A key that has to stay is put back.
func (k *keys) drop(list [][]byte) error {
	all := k.ring.GetKeys()
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(list, func(w []byte) bool { return bytes.Equal(w, key) })
	}
	first := slices.IndexFunc(all, func(key []byte) bool { return !wanted(key) })
	if first < 0 {
		return nil
	}
	for _, key := range slices.Backward(all[first:]) {
		if err := k.ring.RemoveKey(key); err != nil {
			return err
		}
	}
	for _, key := range all[first:] {
		if wanted(key) {
			if err := k.ring.AddKey(key); err != nil {
				return err
			}
		}
	}
	return nil
}

func openersOf(list [][]byte) ([]cipher.AEAD, error) {
	var openers []cipher.AEAD
	for _, key := range list {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		opener, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		openers = append(openers, opener)
	}
	return openers, nil
}

// inUse says that gossip is sealed.
func (k *keys) inUse() bool {
	openers := k.opener.Load()
	return openers != nil && len(*openers) > 0
}

// opens says that a message with what stands before it is sealed with one of the keys. scratch is room for what is in it.
func (k *keys) opens(message, before, scratch []byte) bool {
	if len(message) < 1+nonceBytes+tagBytes || message[0] != sealVersion {
		return false
	}
	openers := k.opener.Load()
	if openers == nil {
		return false
	}
	nonce, sealed := message[1:1+nonceBytes], message[1+nonceBytes:]
	for _, opener := range *openers {
		if _, err := opener.Open(scratch[:0], nonce, sealed, before); err == nil {
			return true
		}
	}
	return false
}

// SetKeys changes the keys of the running gossip: 32 bytes each, the first seals what is sent, all of them open what is
// received. A key is taken into use without losing a member in three steps, each once all members have done the one
// before: the new one behind the old, in front of it, alone. Gossip that is sealed once stays so.
func (g *Gossip) SetKeys(list [][]byte) error {
	if len(list) == 0 {
		return fmt.Errorf("set keys of gossip: want 1 to %d keys", maxKeys)
	}
	if err := checkKeys(list); err != nil {
		return fmt.Errorf("set keys of gossip: %w", err)
	}
	if err := g.keys.set(list); err != nil {
		return fmt.Errorf("set keys of gossip: %w", err)
	}
	return nil
}
