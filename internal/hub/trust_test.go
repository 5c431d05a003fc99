package hub_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

func trust(t *testing.T, ca []byte) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("the certificate cannot be read")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
