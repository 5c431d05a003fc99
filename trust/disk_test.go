package trust

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsKeptIsForNobodyElse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "trust"), 0o755); err != nil {
		t.Fatal(err)
	}
	first := founder(t, Config{Dir: dir, Node: "one"})
	revoke(t, first, "two")
	var found []string
	err := filepath.WalkDir(first.disk.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			found = append(found, entry.Name())
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o; want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(found, " "), "ca.crt ca.sealed node.crt node.key seal.key state.json"; got != want {
		t.Errorf("kept are %s; want %s", got, want)
	}
	sealed, err := first.sealedIssuer()
	if err != nil || bytes.Contains(sealed, []byte("certificate")) {
		t.Errorf("the authority lies open on disk: %v", err)
	}
}

func TestAMemberIsOneAgainAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		revoke(t, second, "three")
		again := open(t, second.cfg)
		if !again.Member() || !again.Revoked("three") || !reflect.DeepEqual(again.State(), second.State()) {
			t.Errorf("after a restart: member %v, state %+v; want a member with %+v", again.Member(), again.State(), second.State())
		}
		if !again.Certificate().Equal(second.Certificate()) || len(again.GossipKeys()) != 1 || len(again.GossipKeys()[0]) != 32 {
			t.Error("the certificate or the gossip key is another one")
		}
		mustConnect(t, again, first)
	})
}

func TestOpenMakesNothing(t *testing.T) {
	m := open(t, Config{Node: "one"})
	if m.Member() || m.Certificate() != nil || len(m.GossipKeys()) != 0 || m.State().Epoch != 0 {
		t.Errorf("a new node is a member: %v, %v, %v", m.Member(), m.Certificate(), m.State())
	}
	if _, err := os.Stat(m.disk.dir); !os.IsNotExist(err) {
		t.Errorf("Open has made %s: %v", m.disk.dir, err)
	}
	if _, ok := metric(t, m, "p2pd_trust_certificate_expiry_seconds", ""); ok {
		t.Error("a node without a certificate says when it runs out")
	}
}

func TestOnlyAHigherEpochChangesTheState(t *testing.T) {
	first := founder(t, Config{Node: "one"})
	now := first.State()
	for _, epoch := range []uint64{0, 1} {
		s := now.clone()
		s.Epoch, s.GossipKeys = epoch, [][]byte{newGossipKey()}
		if changed, err := first.SetState(s); changed || err != nil || !reflect.DeepEqual(first.State(), now) {
			t.Errorf("SetState(epoch %d) after epoch 1 = %v, %v; want no change", epoch, changed, err)
		}
	}
	s := now.clone()
	s.Epoch, s.GossipKeys = 7, [][]byte{newGossipKey(), now.GossipKeys[0]}
	if changed, err := first.SetState(s); !changed || err != nil || !reflect.DeepEqual(first.State(), s) {
		t.Errorf("SetState(epoch 7) = %v, %v; want it taken", changed, err)
	}
	s.GossipKeys[0][0]++ // what was handed in is the caller's again
	first.State().GossipKeys[0][0]++
	first.GossipKeys()[0][0]++
	if again := open(t, first.cfg); !reflect.DeepEqual(first.State(), again.State()) {
		t.Error("the state can be changed from outside")
	}
	if value, _ := metric(t, first, "p2pd_trust_epoch", ""); value != 7 {
		t.Errorf("p2pd_trust_epoch = %v; want 7", value)
	}
}

func TestAStateThatCannotBeIsNotTaken(t *testing.T) {
	first := founder(t, Config{Node: "one"})
	leaf := first.Certificate().Raw
	for name, change := range map[string]func(*State){
		"no authority":           func(s *State) { s.CAs = nil },
		"a member as authority":  func(s *State) { s.CAs = append(s.CAs, leaf) },
		"junk as authority":      func(s *State) { s.CAs = append(s.CAs, []byte("junk")) },
		"too many authorities":   func(s *State) { s.CAs = append(s.CAs, make([][]byte, maxAuthorities)...) },
		"no gossip key":          func(s *State) { s.GossipKeys = nil },
		"a short gossip key":     func(s *State) { s.GossipKeys = append(s.GossipKeys, make([]byte, 16)) },
		"too many gossip keys":   func(s *State) { s.GossipKeys = append(s.GossipKeys, make([][]byte, maxGossipKeys)...) },
		"too many revoked nodes": func(s *State) { s.Revoked = crowd(maxRevoked + 1) },
	} {
		s := first.State()
		s.Epoch++
		change(&s)
		if changed, err := first.SetState(s); changed || err == nil || first.State().Epoch != 1 {
			t.Errorf("SetState with %s = %v, %v; want an error", name, changed, err)
		}
	}
}

func crowd(n int) map[string]time.Time {
	all := make(map[string]time.Time)
	for i := range n {
		all[string(rune('a'+i%26))+time.Duration(i).String()] = time.Time{}
	}
	return all
}

func TestAnotherAuthorityClosesWhatTheOldOneLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		p := mustConnect(t, second, first)
		other, err := newIssuer(testFarm, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s := first.State()
		s.Epoch, s.CAs = 2, append(s.CAs, other.certificate())
		if _, err := first.SetState(s); err != nil {
			t.Fatal(err)
		}
		if err := p.talks(t); err != nil {
			t.Errorf("one more authority has closed a connection: %v", err)
		}
		s.Epoch, s.CAs = 3, s.CAs[1:]
		if _, err := first.SetState(s); err != nil {
			t.Fatal(err)
		}
		if p.talks(t) == nil {
			t.Error("a connection outlived the authority of its certificate")
		}
	})
}

func TestACertificateOfAnotherIsNotTaken(t *testing.T) {
	first := founder(t, Config{Node: "one"})
	second, third := open(t, Config{Node: "two"}), member(t, first, Config{Node: "three"})
	if err := second.SetCertificate(third.own.Load().pair.Certificate); err == nil {
		t.Error("a node without a key took a certificate")
	}
	good := certify(t, first, second, second.cfg)
	if err := second.SetCertificate(good); err == nil {
		t.Error("a node took a certificate of an authority that it does not know")
	}
	if _, err := second.SetState(first.State()); err != nil {
		t.Fatal(err)
	}
	elsewhere := second.cfg
	elsewhere.Farm = "other"
	for name, chain := range map[string][][]byte{
		"no certificate": nil, "junk": {[]byte("junk")}, "another node's": third.own.Load().pair.Certificate,
		"another farm's": certify(t, first, second, elsewhere),
	} {
		if err := second.SetCertificate(chain); err == nil || second.Member() {
			t.Errorf("SetCertificate(%s) = %v; want an error", name, err)
		}
	}
	if err := second.SetCertificate(good); err != nil || !second.Member() {
		t.Errorf("SetCertificate() = %v, member: %v; want a member", err, second.Member())
	}
	if value, ok := metric(t, second, "p2pd_trust_certificate_expiry_seconds", ""); !ok || int64(value) != second.Certificate().NotAfter.Unix() {
		t.Errorf("p2pd_trust_certificate_expiry_seconds = %v; want %v", value, second.Certificate().NotAfter.Unix())
	}
}

func TestAMemberFoundsNoFarmAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		root := first.State().CAs[0]
		time.Sleep(365 * 24 * time.Hour) // even if its certificate has run out
		again := open(t, first.cfg)
		if err := again.Found(); err == nil || !bytes.Equal(again.State().CAs[0], root) {
			t.Errorf("Found() on a node that was a member = %v; want an error, and the authority untouched", err)
		}
	})
}

func TestACrashWhileFoundingCanBeRepeated(t *testing.T) {
	for _, last := range []string{sealFile, issuerSeal, nodeKey, stateFile, caCert} {
		whole := founder(t, Config{Node: "one"})
		broken := open(t, Config{Node: "one"})
		for _, name := range []string{sealFile, issuerSeal, nodeKey, stateFile, caCert} {
			raw, err := whole.disk.read(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := broken.disk.write(name, raw); err != nil {
				t.Fatal(err)
			}
			if name == last {
				break
			}
		}
		again := open(t, broken.cfg)
		if again.Member() {
			t.Errorf("after a crash behind %s the node is a member", last)
		}
		if err := again.Found(); err != nil || !again.Member() {
			t.Errorf("Found() after a crash behind %s = %v; want a member", last, err)
		}
		if err := openAgain(again).Found(); err == nil {
			t.Error("it can be founded twice")
		}
	}
}

// openAgain is what a restart makes of m.
func openAgain(m *Trust) *Trust {
	again, err := Open(m.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	return again
}

func TestDamageIsNamed(t *testing.T) {
	for _, name := range []string{nodeCert, nodeKey, stateFile} {
		first := founder(t, Config{Node: "one"})
		if err := first.disk.write(name, []byte("junk")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(first.cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Open with a damaged %s = %v; want an error that names it", name, err)
		}
	}
	first := founder(t, Config{Node: "one"})
	other := first.cfg
	other.Node = "two"
	if _, err := Open(other, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `"one"`) {
		t.Errorf("Open of another node's directory = %v; want an error that says whose it is", err)
	}
}

func TestTheSealedAuthorityMayGo(t *testing.T) {
	first := founder(t, Config{Node: "one"})
	for range 2 {
		if err := first.keepSealedIssuer(nil); err != nil {
			t.Fatal(err)
		}
		if sealed, err := first.sealedIssuer(); sealed != nil || err != nil {
			t.Errorf("sealedIssuer() = %d bytes, %v; want none", len(sealed), err)
		}
	}
	second := open(t, Config{Node: "two"})
	if _, ok, err := second.sealKey(); ok || err != nil {
		t.Errorf("sealKey() of a node without one = %v, %v; want none", ok, err)
	}
	k := newSealKey()
	if err := second.keepSealKey(k); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := openAgain(second).sealKey(); got != k || !ok || err != nil {
		t.Errorf("sealKey() after keepSealKey() = %v, %v; want the same", ok, err)
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	good := Config{Dir: "dir", Node: "one", Farm: "farm"}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate() = %v; want nil", err)
	}
	for name, change := range map[string]func(*Config){
		"no directory": func(c *Config) { c.Dir = "" }, "no node": func(c *Config) { c.Node = "" }, "no farm": func(c *Config) { c.Farm = "" },
		"a long name": func(c *Config) { c.Farm = strings.Repeat("x", 65) }, "a name of two lines": func(c *Config) { c.Node = "a\nb" },
		"no text": func(c *Config) { c.Node = "\xff" }, "mode none": func(c *Config) { c.Mode = None }, "a mode": func(c *Config) { c.Mode = "tls" },
		"mode files without files": func(c *Config) { c.Mode = Own }, "a negative time": func(c *Config) { c.Grace = -1 },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("Validate() with %s = nil; want an error", name)
		}
	}
}
