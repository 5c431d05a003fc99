package testfarm_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/testfarm"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/trust"
)

// trusted makes a farm whose first node founds its trust, and whose others join by one token.
func trusted(t *testing.T, nodes int) *testfarm.Farm {
	t.Helper()
	f := testfarm.Start(t, testfarm.Options{Nodes: 1, Change: func(_ int, c *node.Config) { c.Trust.Mode = trust.Auto }})
	f.SettleCatalog(f.Nodes...)
	for range nodes - 1 {
		joined(t, f)
	}
	f.Settle()
	return f
}

// joined adds a node that joins by a token of its own.
func joined(t *testing.T, f *testfarm.Farm) *testfarm.Node {
	t.Helper()
	token, err := f.Nodes[0].Admin().CreateToken(t.Context(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	return f.Add(func(c *node.Config) { c.Trust.Mode, c.Trust.Token = trust.Auto, token.Token })
}

func TestATrustedFarmPullsOnce(t *testing.T) {
	t.Parallel()
	f := trusted(t, 3)
	i := image(t, f, 5000, "library/trusted", "latest", 20<<20)
	for _, n := range f.Nodes {
		manifestAt(t, n, "library/trusted", i)
		if got := status(t, n, http.MethodGet, "library/trusted/blobs/"+i.Layers[0].Digest.String()); got != http.StatusOK {
			t.Errorf("GET of a layer at %s = %d; want 200", n.ID(), got)
		}
		part := n.MustStatus().TrustPart
		if part == nil || part.Mode != "auto" || time.Until(part.CertificateEnd) < 29*24*time.Hour {
			t.Errorf("trust of %s = %+v; want mode auto and a certificate for 30 days", n.ID(), part)
		}
	}
	if got := crossed(f, i.Layers[0].Digest); got != i.Layers[0].Size {
		t.Errorf("%d bytes of a layer of %d crossed; want each once", got, i.Layers[0].Size)
	}
}

// TestARevokedNodeIsShutOutByAllWithinSeconds: it gets nothing from any member, and nothing that it says counts.
func TestARevokedNodeIsShutOutByAllWithinSeconds(t *testing.T) {
	t.Parallel()
	f := trusted(t, 4)
	i := image(t, f, 5100, "library/revoked", "latest", 8<<20)
	stolen, others := f.Nodes[3], f.Nodes[:3]
	manifestAt(t, f.Nodes[0], "library/revoked", i)
	start := time.Now()
	if _, err := f.Nodes[1].Admin().RevokeNode(t.Context(), stolen.ID()); err != nil {
		t.Fatal(err)
	}
	for _, n := range others {
		f.Eventually("the revocation at "+n.ID(), func() bool {
			s := n.MustStatus()
			return slices.Contains(s.TrustPart.Revoked, stolen.ID())
		})
	}
	took := time.Since(start)
	for _, n := range others {
		f.Eventually("a farm without the stolen node at "+n.ID(), func() bool {
			_, members := n.Ring()
			return members == 3
		})
	}
	if !testfarm.Slowed && took > 5*time.Second {
		t.Errorf("the revocation reached all members after %v; want seconds", took)
	}
	// It has no upstream of its own, so what it can give to a client it has from the farm.
	f.Hub.MustFault(hub.Fault{Do: hub.Down})
	if got := status(t, stolen, http.MethodGet, "library/revoked/blobs/"+i.Layers[0].Digest.String()); got == http.StatusOK {
		t.Error("the revoked node got a blob from the farm")
	}
	for _, n := range others {
		if got := status(t, n, http.MethodGet, "library/revoked/manifests/"+i.Digest.String(), acceptAll...); got != http.StatusOK {
			t.Errorf("GET at %s after the revocation = %d; want 200", n.ID(), got)
		}
	}
	stolen.Restart()
	time.Sleep(time.Second) // it has every chance to come back
	for _, n := range others {
		if _, members := n.Ring(); members != 3 {
			t.Errorf("the revoked node is in the ring of %s again", n.ID())
		}
	}
}

// TestTheGossipKeyIsRotatedOverARunningFarm: no member is lost, and the old key opens nothing any more.
func TestTheGossipKeyIsRotatedOverARunningFarm(t *testing.T) {
	t.Parallel()
	f := trusted(t, 3)
	epoch := f.Nodes[2].MustStatus().TrustPart.Epoch
	if _, err := f.Nodes[2].Admin().RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range f.Nodes {
		f.Eventually("the three steps of the rotation at "+n.ID(), func() bool { return n.MustStatus().TrustPart.Epoch >= epoch+3 })
		if _, members := n.Ring(); members != 3 {
			t.Errorf("%s sees %d members after the rotation; want 3", n.ID(), members)
		}
	}
	joined(t, f) // by the new key
	f.Settle()
}

// TestATrustedFarmStartsAgainAsAWhole: nobody needs a token, and no seed.
func TestATrustedFarmStartsAgainAsAWhole(t *testing.T) {
	t.Parallel()
	f := trusted(t, 3)
	for _, n := range f.Nodes {
		n.Stop()
	}
	for _, n := range f.Nodes {
		n.Config.Trust.Token = ""
		n.Start()
	}
	f.Settle()
	f.SettleCatalog(f.Nodes...)
	joined(t, f)
	f.Settle()
}

// TestATokenLetsInNoMoreNodesThanItIsFor.
func TestATokenLetsInNoMoreNodesThanItIsFor(t *testing.T) {
	t.Parallel()
	f := trusted(t, 1)
	token, err := f.Nodes[0].Admin().CreateToken(t.Context(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.Add(func(c *node.Config) { c.Trust.Mode, c.Trust.Token = trust.Auto, token.Token })
	f.Settle()
	c := f.Config(t.TempDir())
	c.Trust.Mode, c.Trust.Token = trust.Auto, token.Token
	c.AdminSocket = ""
	n, err := node.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); !errors.Is(err, trust.ErrTokenUsedUp) {
		t.Errorf("a second node with a token for one = %v; want %v", err, trust.ErrTokenUsedUp)
	}
}

// TestWithoutACertificateNothingOfTheFarmAnswers: neither calls in the clear, nor the farm's own protocols under a made-up
// certificate, nor gossip without the key.
func TestWithoutACertificateNothingOfTheFarmAnswers(t *testing.T) {
	t.Parallel()
	f := trusted(t, 2)
	stranger := f.Config(t.TempDir())
	stranger.Trust.Mode, stranger.AdminSocket = trust.None, ""
	stray, err := node.Open(t.Context(), stranger, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- stray.Run(ctx) }()
	<-stray.Ready()
	peer := f.Nodes[0].MustStatus().Addresses.Peer
	for name, how := range map[string]credentials.TransportCredentials{
		"in the clear":                   insecure.NewCredentials(),
		"over TLS without a certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}), //nolint:gosec // a stranger
	} {
		conn, err := grpc.NewClient("passthrough:///"+peer, grpc.WithTransportCredentials(how))
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{
			"/pullonce.transfer.Transfer/Ping", "/pullonce.transfer.Transfer/Status", "/pullonce.transfer.Transfer/Document",
			"/pullonce.catalog.Catalog/Hello", "/pullonce.catalog.Catalog/Query", "/pullonce.copies.Copies/Compare",
			"/pullonce.trust.Trust/State", "/pullonce.trust.Trust/Seal",
		} {
			call, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := conn.Invoke(call, method, &emptypb.Empty{}, &emptypb.Empty{})
			cancel()
			if code := grpcstatus.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
				t.Errorf("%s %s = %v; want no connection at all", method, name, err)
			}
		}
		_ = conn.Close()
	}
	for _, n := range f.Nodes {
		if _, members := n.Ring(); members != 2 {
			t.Errorf("%s has %d members with a stranger about; want 2", n.ID(), members)
		}
		if n.Metric("p2pd_gossip_refused_total") == 0 {
			t.Errorf("%s has counted no refusal of a stranger's gossip", n.ID())
		}
	}
	if _, members := stray.Ring(); members > 1 {
		t.Errorf("the stranger sees %d members; want itself alone at most", members)
	}
	if f.Nodes[0].Metric("p2pd_trust_refused_total") == 0 {
		t.Error("no refusal was counted at the peer door")
	}
	stop()
	<-done
}

// TestTenThousandHalfOpenConnectionsStopNobody: as many connections that say nothing, half of them to the peer door and
// half to gossip, stay open or are closed at once; meanwhile nodes join and pull.
func TestTenThousandHalfOpenConnectionsStopNobody(t *testing.T) {
	count := 10_000
	if testing.Short() {
		count = 2000
	}
	f := trusted(t, 2)
	i := image(t, f, 5400, "library/besieged", "latest", 4<<20)
	target := f.Nodes[0].MustStatus().Addresses
	before := f.Nodes[0].Metric("go_goroutines")
	var besiegers errgroup.Group
	besiegers.SetLimit(64)
	connections := make([]net.Conn, count)
	for k := range connections {
		besiegers.Go(func() error {
			to := target.Peer
			if k%2 == 1 {
				to = target.Gossip
			}
			// From many addresses, as many hosts would.
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(k>>8), byte(k))}, Timeout: 10 * time.Second}
			c, err := d.DialContext(t.Context(), "tcp", to)
			if err == nil {
				connections[k] = c
			}
			if errors.Is(err, syscall.ECONNRESET) {
				return nil // there was no room for it
			}
			return err
		})
	}
	if err := besiegers.Wait(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, c := range connections {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	if now := f.Nodes[0].Metric("go_goroutines"); now > before+3000 {
		t.Errorf("%d silent connections cost %.0f goroutines; want a bounded number", count, now-before)
	}
	joined(t, f)
	f.Settle()
	for _, n := range f.Nodes {
		manifestAt(t, n, "library/besieged", i)
		if got := status(t, n, http.MethodGet, "library/besieged/blobs/"+i.Layers[0].Digest.String()); got != http.StatusOK {
			t.Errorf("GET of a layer at %s under siege = %d; want 200", n.ID(), got)
		}
	}
}

// TestATokenThatCannotBeOfUseIsNoTokenThatIsIgnored: the node would found a farm of its own, or stay in it.
func TestATokenThatCannotBeOfUseIsNoTokenThatIsIgnored(t *testing.T) {
	t.Parallel()
	f := trusted(t, 1)
	token, err := f.Nodes[0].Admin().CreateToken(t.Context(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := f.Config(t.TempDir())
	c.AdminSocket, c.Trust.Mode, c.Trust.Token = "", trust.Auto, token.Token
	seeds := c.Gossip.Seeds
	open := func(what string) error {
		n, err := node.Open(t.Context(), c, slog.New(slog.DiscardHandler))
		if err == nil {
			_ = n.Close()
			t.Errorf("Open with %s = nil", what)
		}
		return err
	}
	c.Gossip.Seeds = nil
	if err := open("a token and nobody to join"); !errors.Is(err, node.ErrTrustSetup) {
		t.Errorf("Open with a token and nobody to join = %v; want %v", err, node.ErrTrustSetup)
	}
	c.Trust.Token = ""
	alone, err := node.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_ = alone.Close()
	c.Gossip.Seeds, c.Trust.Token = seeds, token.Token
	if err := open("a token of another farm"); !errors.Is(err, node.ErrTrustSetup) || !strings.Contains(err.Error(), "remove the folder") {
		t.Errorf("Open with a token of another farm = %v; want one that tells what to do", err)
	}
}
