package testfarm_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/trust"
)

// ownAddress is an address of this host that is no loopback one.
func ownAddress(t *testing.T) string {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	t.Skip("this host has no address beyond loopback")
	return ""
}

// aUser lets alice push with the password secret.
func aUser(t *testing.T) *access.Policy {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("alice:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := access.OpenUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	return access.NewPolicy(access.Parts{Prefix: "farm.internal", Users: users}, slog.New(slog.DiscardHandler))
}

// trusting is a client on another host whose only authorities are those in the PEM text.
func trusting(t *testing.T, pem string) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if pem != "" && !pool.AppendCertsFromPEM([]byte(pem)) {
		t.Fatalf("no certificate in %q", pem)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// TestBeyondLoopbackTheRegistryShowsACertificateOfTheFarm: clients that were given the farm's CA pull, and push as users;
// others get nothing, and in the clear there is nothing. On loopback all is as it was.
func TestBeyondLoopbackTheRegistryShowsACertificateOfTheFarm(t *testing.T) {
	t.Parallel()
	address, users := ownAddress(t), aUser(t)
	open := func(c *node.Config) {
		testfarm.Hosting(0, c)
		c.Trust.Mode, c.Door.FarmTLS, c.Registry.Access = trust.Auto, true, users
		c.Registry.Listen = []string{"127.0.0.1:0", net.JoinHostPort(address, "0")}
	}
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { open(c) }})
	f.SettleCatalog(f.Nodes...)
	token, err := f.Nodes[0].Admin().CreateToken(t.Context(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.Add(func(c *node.Config) { open(c); c.Trust.Token = token.Token })
	f.Settle()
	f.SettleCatalog(f.Nodes...)
	ca, err := f.Nodes[1].Admin().FarmCA(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	client, stranger := trusting(t, ca.PEM), trusting(t, "")
	blob := bytes.Repeat([]byte("blob"), 1<<18)
	digest := oci.FromBytes("sha256", blob).String()
	for _, n := range f.Nodes {
		door := n.RegistryAddresses()[1]
		f.Eventually("a certificate at "+door, func() bool {
			res, err := client.Get("https://" + door + "/v2/")
			if err != nil {
				return false
			}
			_ = res.Body.Close()
			return true
		})
	}
	for i, n := range f.Nodes {
		door := n.RegistryAddresses()[1]
		if res, err := stranger.Get("https://" + door + "/v2/"); err == nil {
			_ = res.Body.Close()
			t.Errorf("a client without the CA was answered %d at %s", res.StatusCode, door)
		}
		if res, err := stranger.Get("http://" + door + "/v2/"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("in the clear %s answers %d; want 400 at most", door, res.StatusCode)
			}
		}
		push := func(as string) int {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
				"https://"+door+"/v2/farm.internal/team/app/blobs/uploads/?digest="+digest, bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			if as != "" {
				q.SetBasicAuth(as, "secret")
			}
			res, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			return res.StatusCode
		}
		if got := push(""); got != http.StatusUnauthorized && got != http.StatusForbidden {
			t.Errorf("a push by nobody at %s = %d; want 401 or 403", door, got)
		}
		if got := push("alice"); got != http.StatusCreated {
			t.Errorf("a push by a user at %s = %d; want 201", door, got)
		}
		other := f.Nodes[1-i].RegistryAddresses()
		for _, url := range []string{"https://" + other[1], "http://" + other[0]} {
			res, err := client.Get(url + "/v2/farm.internal/team/app/blobs/" + digest)
			if err != nil {
				t.Errorf("a pull by nobody at %s = %v", url, err)
				continue
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK || !bytes.Equal(got, blob) {
				t.Errorf("a pull by nobody at %s = %d, %d bytes, %v; want the blob", url, res.StatusCode, len(got), err)
			}
		}
	}
	if !strings.HasPrefix(ca.PEM, "-----BEGIN CERTIFICATE-----") || strings.Contains(ca.PEM, "KEY") {
		t.Errorf("CA = %q; want certificates alone", ca.PEM)
	}
}
