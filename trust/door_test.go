package trust

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// knock makes a connection to server's join door by dial.
func knock(t *testing.T, server *Trust, dial func(raw net.Conn) (*doorConn, error)) (in, out *doorConn, inError, outError error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, inError = server.acceptDoor(t.Context(), far)
	}()
	out, outError = dial(near)
	<-done
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return in, out, inError, outError
}

func TestWhoJoinsPinsTheAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		stranger := open(t, Config{Node: "two"})
		root := authority(t, first).fingerprint()
		in, out, inError, outError := knock(t, first, func(raw net.Conn) (*doorConn, error) {
			return stranger.dialDoor(t.Context(), raw, root)
		})
		if inError != nil || outError != nil {
			t.Fatalf("acceptDoor() = %v, dialDoor() = %v; want a connection", inError, outError)
		}
		if in.Peer != nil || in.ID != "" || out.ID != "one" || fingerprintOf(out.Root) != root {
			t.Errorf("the door saw %q, who knocked saw %q of %s; want nobody, one of %s", in.ID, out.ID, fingerprintOf(out.Root), root)
		}
	})
}

func TestNothingIsSentToAnotherAuthority(t *testing.T) {
	for _, c := range []struct {
		name   string
		farm   string
		imitat bool // shows the right authority beside a certificate that is not of it
		want   reason
	}{
		{"another farm's", testFarm, false, wrongAuthority},
		{"an imitation", testFarm, true, wrongAuthority},
		{"a farm of another name", "other", false, wrongFarm},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := founder(t, Config{Node: "one", Farm: c.farm})
				pin := authority(t, first).fingerprint()
				door := first
				if c.farm == testFarm {
					door = founder(t, Config{Node: "one"})
				}
				if c.imitat {
					door.view.Store(first.view.Load())
				}
				stranger := open(t, Config{Node: "two"})
				near, far := net.Pipe()
				var got []byte
				done := make(chan struct{})
				go func() {
					defer close(done)
					if d, err := door.acceptDoor(t.Context(), far); err == nil {
						got, _ = io.ReadAll(d)
					}
				}()
				d, err := stranger.dialDoor(t.Context(), near, pin)
				if err == nil {
					_ = d.Close()
				}
				<-done
				if err == nil || len(got) > 0 || count(stranger, c.want) != 1 {
					t.Errorf("dialDoor() = %v, %q sent; want it refused for %s", err, got, c.want)
				}
			})
		})
	}
}

func TestACertificateThatHasRunOutMayOnlyRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one", Lifetime: 200 * 24 * time.Hour})
		second := member(t, first, Config{Node: "two"})
		renewal := func(raw net.Conn) (*doorConn, error) { return second.dialDoorToRenew(t.Context(), raw) }

		time.Sleep(time.Until(second.Certificate().NotAfter.Add(time.Second)))
		// It does not even try; a node whose clock is wrong or that lies does.
		near, far := net.Pipe()
		go func() {
			_ = outsider(t.Context(), near, func(c *tls.Config) { c.Certificates = []tls.Certificate{second.own.Load().pair} })
			_ = near.Close()
		}()
		if _, _, _, err := first.Server(t.Context(), far); err == nil || count(first, runOut) != 1 {
			t.Errorf("Server() took a certificate that has run out: %v", err)
		}
		in, out, inError, outError := knock(t, first, renewal)
		if inError != nil || outError != nil || in.ID != "two" || keyPrintOf(in.Peer) != keyPrintOf(second.Certificate()) || out.ID != "one" {
			t.Errorf("the door to renew at: %v, %v; want it open for two", inError, outError)
		}
		time.Sleep(90*24*time.Hour - 2*time.Second)
		if _, _, inError, outError := knock(t, first, renewal); inError != nil || outError != nil {
			t.Errorf("the door to renew at, 90 days later: %v, %v; want it open", inError, outError)
		}
		time.Sleep(2 * time.Second)
		if _, _, inError, _ := knock(t, first, renewal); inError == nil || count(first, runOut) != 2 {
			t.Errorf("the door to renew at, after 90 days: %v; want it shut", inError)
		}
	})
}

func TestAFarmWhoseCertificatesHaveAllRunOutCanRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		time.Sleep(60 * 24 * time.Hour)
		if first.Member() || second.Member() {
			t.Fatal("certificates that ran out are good")
		}
		_, _, inError, outError := knock(t, first, func(raw net.Conn) (*doorConn, error) { return second.dialDoorToRenew(t.Context(), raw) })
		if inError != nil || outError != nil {
			t.Fatalf("acceptDoor() = %v, dialDoorToRenew() = %v; want a connection", inError, outError)
		}
		renew(t, first, second)
		renew(t, first, first)
		if err := mustConnect(t, second, first).talks(t); err != nil {
			t.Error(err)
		}
	})
}

func TestARevokedNodeMayNotRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		second := member(t, first, Config{Node: "two"})
		revoke(t, first, "two")
		_, _, inError, _ := knock(t, first, func(raw net.Conn) (*doorConn, error) { return second.dialDoorToRenew(t.Context(), raw) })
		if inError == nil || count(first, revokedNode) != 1 {
			t.Errorf("the door to renew at: %v; want it shut", inError)
		}
	})
}

func TestMembersCallsDoNotGoThroughTheJoinDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := founder(t, Config{Node: "one"})
		near, far := net.Pipe()
		go func() { _ = outsider(t.Context(), near, func(*tls.Config) {}) }()
		if _, err := first.acceptDoor(t.Context(), far); err == nil || count(first, noProtocol) != 1 {
			t.Errorf("acceptDoor() of another protocol = %v; want it refused", err)
		}
		_ = near.Close()
	})
}
