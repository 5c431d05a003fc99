package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAnAddressIsListenedOnWithItsOwnIPVersion(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:5000": "tcp4", "0.0.0.0:5000": "tcp4", "[::1]:5000": "tcp6", "[fd00::5]:5000": "tcp6", "[::]:5000": "tcp",
		"localhost:5000": "tcp",
	} {
		if got := network("tcp", address); got != want {
			t.Errorf("network(tcp, %s) = %s; want %s", address, got, want)
		}
	}
}

func TestAllAddressesThatAreInUseAreToldAtOnce(t *testing.T) {
	cfg := Default(t.TempDir())
	var taken []string
	for range 3 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		taken = append(taken, l.Addr().String())
	}
	cfg.Registry.Listen, cfg.PeerListen = []string{taken[0]}, "127.0.0.1:0"
	cfg.Gossip.Listen, cfg.AdminListen = taken[1], taken[2]
	err := cfg.Busy()
	if err == nil {
		t.Fatal("Busy() = nil; want three addresses")
	}
	want := "address " + taken[0] + " is in use by another program; change registry.listen (--registry-listen)\n" +
		"address " + taken[1] + " is in use by another program; change gossip.listen (--gossip-listen)\n" +
		"address " + taken[2] + " is in use by another program; change admin.listen (--admin-listen)"
	if err.Error() != want {
		t.Errorf("Busy() = %v; want\n%s", err, want)
	}
	if _, ok := errors.AsType[*AddressError](err); !ok || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Busy() = %#v; want AddressErrors of EADDRINUSE", err)
	}
	cfg.Registry.Listen, cfg.Gossip.Listen, cfg.AdminListen = []string{"127.0.0.1:0"}, "127.0.0.1:0", ""
	if err := cfg.Busy(); err != nil {
		t.Errorf("Busy() with free addresses = %v; want nil", err)
	}
}

func TestARegistryThatOthersReachIsPointedOutOnce(t *testing.T) {
	for address, want := range map[string]int{"0.0.0.0:0": 1, "127.0.0.1:0": 0} {
		var out bytes.Buffer
		n := &Node{cfg: Default(t.TempDir()), log: slog.New(slog.NewTextHandler(&out, nil))}
		n.cfg.Registry.Listen = []string{address}
		if err := n.openRegistry(); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if got := strings.Count(out.String(), "level=WARN"); got != want {
			t.Errorf("registry on %s: %d warnings; want %d\n%s", address, got, want, &out)
		}
	}
}

func TestASilentPeerIsToldOfInAFewWords(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	dial := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing"`)
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"the asker's time is over", gone, dial, "context deadline exceeded"},
		{"the node refuses", t.Context(), status.Error(codes.PermissionDenied, "another farm"), "another farm"},
		{"not a node", t.Context(), dial, "something listens there, but no node answers"},
	} {
		if got := whySilent(test.ctx, open, test.err); got.Error() != test.want {
			t.Errorf("%s: %q; want %q", test.name, got, test.want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := whySilent(t.Context(), open, dial); got.Error() != "connection refused" {
		t.Errorf("nobody listens: %q; want connection refused", got)
	}
}
