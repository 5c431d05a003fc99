package registryapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Listener is l as the door serves it: with TLS where cfg has it, but on a loopback address, which engines speak to
// without. HTTP/2 is not offered: all bounds of the door (connections, deadlines of each body, the closing of a connection
// that ends a body which failed) are those of connections, and what is large comes as one body at a time.
func Listener(cfg Config, l net.Listener) net.Listener {
	if cfg.TLS == nil || OnLoopback(l.Addr()) {
		return l
	}
	settings := cfg.TLS.Clone()
	settings.NextProtos = []string{"http/1.1"}
	settings.MinVersion = max(settings.MinVersion, tls.VersionTLS12)
	return tls.NewListener(l, settings)
}

// OnLoopback tells whether what listens on address can be reached from its host alone.
func OnLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// lookEvery is how often the files of a certificate are looked at, at most.
const lookEvery = 10 * time.Second

// A Certificate is one that is kept in files, with its key. When the files change, connections from then on get the new
// one; while they cannot be read, or do not fit each other, the old one stays.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               atomic.Pointer[tls.Certificate]
	seen              atomic.Pointer[[2]fs.FileInfo]
	looked            atomic.Int64 // when the files were looked at last, in nanoseconds since begun
	begun             time.Time
}

// OpenCertificate reads a certificate with its chain and its key, both in PEM form.
func OpenCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, begun: time.Now()}
	return c, c.Reload()
}

// Reload reads the files now. With an error the certificate stays what it was.
func (c *Certificate) Reload() error {
	files, err := c.stat() // before they are read: what changes meanwhile is read again
	if err != nil {
		return fmt.Errorf("read certificate of the registry: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate of the registry: %w", err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		c.log.Warn("certificate has expired", slog.String("file", c.certFile), slog.Time("expired", end))
	}
	c.now.Store(&pair)
	c.seen.Store(&files)
	return nil
}

// GetCertificate is for tls.Config. It looks at the files, if nobody has done so for a while.
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	at := int64(time.Since(c.begun))
	if last := c.looked.Load(); at-last >= int64(lookEvery) && c.looked.CompareAndSwap(last, at) && c.changed() {
		if err := c.Reload(); err != nil {
			c.log.Warn("certificate has changed and cannot be used", slog.Any("error", err))
		}
	}
	pair := c.now.Load()
	if pair == nil {
		return nil, errors.New("no certificate")
	}
	return pair, nil
}

// changed tells whether the files are others than those that were read. Files that are not there are no change.
func (c *Certificate) changed() bool {
	files, err := c.stat()
	seen := c.seen.Load()
	if err != nil || seen == nil {
		return err == nil
	}
	same := func(a, b fs.FileInfo) bool {
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	}
	return !same(files[0], seen[0]) || !same(files[1], seen[1])
}

func (c *Certificate) stat() (files [2]fs.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if files[i], err = os.Stat(name); err != nil {
			return files, err
		}
	}
	return files, nil
}
