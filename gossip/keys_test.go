package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, keyBytes) }

// seal seals as the library does.
func seal(t testing.TB, key, text, before []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	head := append([]byte{sealVersion}, bytes.Repeat([]byte{9}, nonceBytes)...)
	return gcm.Seal(head, head[1:], text, before)
}

func TestAMessageOpensWithTheKeysThatAreSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	k, err := newKeys(nil)
	if err != nil || k.inUse() || k.opens(seal(t, key(1), []byte("x"), nil), nil, nil) {
		t.Fatalf("newKeys without keys: %v, in use %v; want neither, and that nothing opens", err, k.inUse())
	}
	for range 500 {
		var list [][]byte
		for _, n := range random.Perm(6)[:1+random.IntN(maxKeys)] {
			list = append(list, key(byte(n)))
		}
		if err := k.set(list); err != nil {
			t.Fatal(err)
		}
		ring := k.ring.GetKeys()
		if len(ring) != len(list) || !bytes.Equal(ring[0], list[0]) {
			t.Fatalf("the library has %x; want %x, the first first", ring, list)
		}
		for n := range byte(6) {
			set := slices.ContainsFunc(list, func(l []byte) bool { return l[0] == n })
			has := slices.ContainsFunc(ring, func(l []byte) bool { return l[0] == n })
			opens := k.opens(seal(t, key(n), []byte("text"), []byte("head")), []byte("head"), nil)
			if has != set || opens != set {
				t.Fatalf("key %d of %x: the library has it: %v, it opens: %v; want %v", n, list, has, opens, set)
			}
		}
	}
}

func TestKeysAreReadWhileTheyChange(t *testing.T) {
	k, err := newKeys([][]byte{key(0)})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		reading.Go(func() {
			for sealed := seal(t, key(9), nil, nil); ; {
				select {
				case <-done:
					return
				default:
				}
				for _, key := range k.ring.GetKeys() {
					if len(key) != keyBytes {
						t.Errorf("a key of %d bytes; want %d", len(key), keyBytes)
						return
					}
				}
				k.opens(sealed, nil, nil)
			}
		})
	}
	for i := range byte(200) {
		for _, list := range [][][]byte{{key(i), key(i + 1)}, {key(i + 1), key(i)}, {key(i + 1)}, {key(7), key(8), key(i + 1)}, {key(i + 1), key(8)}} {
			if err := k.set(list); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	reading.Wait()
}

func TestKeysThatCannotBeAreRefused(t *testing.T) {
	g, err := New(testConfig(), discard())
	if err != nil {
		t.Fatal(err)
	}
	for what, list := range map[string][][]byte{
		"none": nil, "a short one": {key(1)[:16]}, "too many": {key(1), key(2), key(3), key(4), key(5)}, "an empty one": {key(1), {}},
	} {
		if err := g.SetKeys(list); err == nil {
			t.Errorf("SetKeys of %s = nil; want an error", what)
		}
		cfg := testConfig()
		if cfg.Keys = list; len(list) > 0 && cfg.Validate() == nil {
			t.Errorf("Validate with %s = nil; want an error", what)
		}
	}
}

func FuzzOpens(f *testing.F) {
	k, err := newKeys([][]byte{key(1), key(2)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seal(f, key(2), []byte("text"), nil), []byte(nil))
	f.Add(seal(f, key(3), []byte("text"), nil), []byte("head"))
	f.Add([]byte{sealVersion}, []byte{})
	f.Fuzz(func(t *testing.T, message, before []byte) {
		text := bytes.Clone(message)
		if !k.opens(message, before, make([]byte, 64)) {
			return
		}
		if !bytes.Equal(text, message) {
			t.Fatal("opening a message has changed it")
		}
		if !k.opens(message, before, nil) || k.opens(message, append(bytes.Clone(before), 0), nil) {
			t.Fatalf("%x opens whatever stands before it", message)
		}
	})
}
