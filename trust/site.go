package trust

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// A site is what the files of a site's PKI say.
type site struct {
	authorities [][]byte
	chain       [][]byte
	key         crypto.Signer
	gossipKeys  [][]byte
}

// readSite reads all files.
func readSite(f Files) (site, error) {
	authorities, err := readCertificates(f.CA)
	if err != nil {
		return site{}, err
	}
	pair, err := readPair(f)
	if err != nil {
		return site{}, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return site{}, fmt.Errorf("read %s: a %T cannot sign", f.Key, pair.PrivateKey)
	}
	raw, err := readFile(f.GossipKey)
	if err != nil {
		return site{}, fmt.Errorf("read the gossip key: %w", err)
	}
	keys, err := decodeKeys(string(raw))
	if err != nil {
		return site{}, fmt.Errorf("read the gossip key %s: %w", f.GossipKey, err)
	}
	return site{authorities: authorities, chain: pair.Certificate, key: key, gossipKeys: keys}, nil
}

func readCertificates(path string) ([][]byte, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the authorities: %w", err)
	}
	ders, err := decodeCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("read the authorities %s: %w", path, err)
	}
	return ders, nil
}

// readPair reads the certificate and its key, of any kind that TLS can use.
func readPair(f Files) (tls.Certificate, error) {
	cert, err := readFile(f.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := readFile(f.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the certificate's key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read %s and %s: %w", f.Cert, f.Key, err)
	}
	return pair, nil
}

// decodeKeys reads keys of 32 bytes, one a line.
func decodeKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, err := decodeKey(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key in it")
	}
	return keys, nil
}

// decodeKey reads a key of 32 bytes as hex or base64. Its errors do not show the text.
func decodeKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == gossipKeyLen {
			return key, nil
		}
	}
	return nil, fmt.Errorf("want %d bytes as hex or base64", gossipKeyLen)
}

// A mark tells whether files have changed: when and how long they are.
type mark [4]struct {
	at   time.Time
	size int64
}

// markOf looks at the files. What is not there looks like nothing.
func markOf(f Files) mark {
	var m mark
	for i, path := range []string{f.CA, f.Cert, f.Key, f.GossipKey} {
		if info, err := os.Stat(path); err == nil {
			m[i].at, m[i].size = info.ModTime(), info.Size()
		}
	}
	return m
}

// Reload reads the files again in mode files, and tells whether authorities or gossip keys are others now. When they do
// not fit together, what they said before holds. In other modes it does nothing.
func (t *Trust) Reload() (changed bool, err error) {
	if t.cfg.Mode != Own {
		return false, nil
	}
	defer t.takeTurn()()
	return t.reload()
}

// reload is Reload for who has the turn.
func (t *Trust) reload() (changed bool, err error) {
	m := markOf(t.cfg.Files) // before reading: what is written meanwhile is read the next time
	s, err := readSite(t.cfg.Files)
	if err != nil {
		return false, err
	}
	old := t.view.Load()
	state := old.State
	state.CAs, state.GossipKeys = s.authorities, s.gossipKeys
	v, err := newView(state)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", t.cfg.Files.CA, err)
	}
	own, err := t.newOwn(v, s.chain, s.key)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", t.cfg.Files.Cert, err)
	}
	t.own.Store(own)
	t.useView(v)
	t.mark = m
	return !v.sameAuthorities(old) || !sameKeys(v.GossipKeys, old.GossipKeys), nil
}

// watchSite reads the files again if they have changed.
func (t *Trust) watchSite() (changed bool, err error) {
	defer t.takeTurn()()
	if markOf(t.cfg.Files) == t.mark {
		return false, nil
	}
	return t.reload()
}

func sameKeys(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if string(a[i]) != string(b[i]) {
			return false
		}
	}
	return true
}

// warnOfRights says when others may read a file that only this node should.
func warnOfRights(log *slog.Logger, paths ...string) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			log.Warn("others may read a secret", slog.String("file", path), slog.String("mode", info.Mode().Perm().String()))
		}
	}
}

// identityUsages are what a member's certificate must be good for: it calls and is called.
func identityUsages() []x509.ExtKeyUsage {
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
}
