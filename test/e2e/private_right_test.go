package e2e

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// A client that logs in at the token service gets a new token for each pull: one without the right, once that is taken back,
// and so the very next pull is refused. A client that sends the password itself is checked with the token that the node got
// for it: until that ends, after five minutes with Docker Hub, or is revoked, the upstream still says yes, as it does to
// everybody who holds such a token; then the right ends within auth_ttl.
func TestARightThatIsTakenBackEndsForAClient(t *testing.T) {
	t.Parallel()
	for _, p := range []privacy{{upstream: "auth_ttl: 1s, "}, {upstream: "auth_ttl: 1s, ", credentials: true, bearer: true}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			f := newPrivateFarm(t, 2, p, "containerd", "ctr", "podman", "skopeo")
			const repo, name = "team/secret", "docker.io/team/secret:1"
			secret := f.private(t, repo, 90)
			clients := f.privateClients(t, f.hosts[0], p.bearer)
			pull := func(c privateClient) func(context.Context) error {
				return func(ctx context.Context) error {
					got, err := c.pull(ctx, alice, name)
					return isImage(secret, got, err)
				}
			}
			for _, c := range clients {
				if c.byFarm {
					f.within(t, pullTime, c.name+" of alice", pull(c))
				}
			}
			f.hub.SetReaders(repo, farmLogin.User)
			for _, c := range clients {
				if c.byFarm && !c.password {
					f.refuses(t, c.name+" of alice, who has no right any more", repo, pull(c))
				}
			}
			f.hub.RevokeTokens()
			for _, c := range clients {
				if !c.byFarm {
					continue
				}
				f.within(t, pullTime, "end of alice's right, "+c.name, func(ctx context.Context) error {
					return netfarm.Poll(ctx, func(ctx context.Context) error {
						if pull(c)(ctx) == nil {
							return errNotYet
						}
						return ctx.Err()
					})
				})
				f.refuses(t, c.name+" of alice, whose tokens have ended", repo, pull(c))
			}
		})
	}
}

// While nothing of the upstream can be reached the node goes by what it remembers of a credential, for auth_stale. That is
// for clients that send the same one again, as crane does with the password. Those that log in at the token service bring a
// new token with each pull, or none while that service is down: nothing is remembered of it, and they are refused, though
// alice has pulled the image with ctr a moment ago.
func TestWithoutTheUpstreamARememberedPasswordIsGoodForAWhile(t *testing.T) {
	t.Parallel()
	const stale = 20 * time.Second
	f := newPrivateFarm(t, 2, privacy{upstream: fmt.Sprintf("auth_ttl: 1s, auth_stale: %v, ", stale)}, "containerd", "ctr")
	const repo, name = "team/secret", "docker.io/team/secret:1"
	secret := f.private(t, repo, 91)
	daemon, err := f.hosts[0].StartContainerd(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	crane := func(who netfarm.Login) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := f.cranePull(ctx, f.hosts[0], who, name)
			return isImage(secret, got, err)
		}
	}
	ctr := func(ctx context.Context) error { _, err := ctrPull(ctx, daemon, alice, name); return err }
	f.within(t, pullTime, "ctr of alice", ctr)
	asked := time.Now()
	f.within(t, pullTime, "crane of alice", crane(alice))
	down := f.hub.MustFault(hub.Fault{Do: hub.Down})

	f.within(t, stale, "crane of alice, on a right that cannot be checked", func(ctx context.Context) error {
		for f.metric(t, 0, "p2pd_node_stale_rights_total") == 0 {
			if err := crane(alice)(ctx); err != nil {
				return err
			}
		}
		return crane(alice)(ctx)
	})
	f.refuses(t, "crane of bob, without the upstream", repo, crane(bob))
	f.refuses(t, "crane of nobody, without the upstream", repo, crane(nobody))
	f.refuses(t, "ctr of alice, without the token service", repo, ctr)
	if err := f.hub.ClearFault(down); err != nil {
		t.Fatal(err)
	}
	f.hub.MustFault(hub.Fault{Kind: hub.Manifest, Do: hub.Down}) // and with it the registry
	f.refuses(t, "ctr of alice, with a new token that cannot be checked", repo, ctr)
	f.within(t, pullTime, "end of alice's right", func(ctx context.Context) error {
		return netfarm.Poll(ctx, func(ctx context.Context) error {
			if crane(alice)(ctx) == nil {
				return errNotYet
			}
			return ctx.Err()
		})
	})
	if took := time.Since(asked); took < stale {
		t.Errorf("alice's right ended after %v; want %v", took, stale)
	}
	f.refuses(t, "crane of alice, too long without the upstream", repo, crane(alice))
	crossedTimes(t, f.hub, secret, 1)
}

// metric is the value of a counter without labels of a host's node.
func (f *privateFarm) metric(t *testing.T, host int, name string) (value float64) {
	t.Helper()
	resp, err := f.hosts[host].Client().Get("http://127.0.0.1:5080/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatalf("metric %s: %v", name, err)
			}
			return value
		}
	}
	t.Fatalf("the node of host %d has no metric %s: %v", host+1, name, lines.Err())
	return 0
}
