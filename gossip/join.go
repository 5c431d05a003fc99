package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	gossippb "github.com/pullonce/pullonce/proto/gossip"
)

const (
	// askAtOnce bounds how many nodes are asked at one time: a silent one holds up
	// none of the others.
	askAtOnce = 4
	// rejoinTries bounds how many gone members one round asks.
	rejoinTries = 3
	// maxContacts bounds how many nodes that peers told of wait to be asked.
	maxContacts = 16
	// maxSnapshot bounds how many members a snapshot names.
	maxSnapshot = 4096
)

// splitSeed reads "host:port", "host", "ip", "[ip6]" or "[ip6]:port".
func splitSeed(seed string) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(seed); err == nil {
		return ip.String(), DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(seed)
	if err != nil {
		host, text, err = net.SplitHostPort(seed + ":" + strconv.Itoa(DefaultPort))
	}
	number, badPort := strconv.ParseUint(text, 10, 16)
	if err != nil || badPort != nil || host == "" || number == 0 {
		return "", 0, fmt.Errorf("seed %q: want host:port", seed)
	}
	return host, uint16(number), nil
}

// join asks the seeds until one answers, and goes on looking for the rest of the
// farm afterwards, until ctx ends.
func (g *Gossip) join(ctx context.Context, list *memberlist.Memberlist) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = g.cfg.Timings.RetryMin, g.cfg.Timings.RetryMax
	timer := time.NewTimer(0)
	defer timer.Stop()
	for rounds := 1; ; {
		select {
		case <-ctx.Done():
			return
		case address := <-g.contacts:
			g.ask(ctx, list, []string{address})
		case <-timer.C:
			targets := g.targets(ctx)
			g.ask(ctx, list, targets)
			wait := g.cfg.Timings.RejoinInterval
			if g.alone() && len(targets) > 0 {
				wait = retry.NextBackOff()
				if rounds == 1 {
					g.log.LogAttrs(ctx, slog.LevelWarn, "no seed answers: serving as a farm of one, asking on")
				}
			} else {
				retry.Reset()
				g.setJoined()
			}
			rounds++
			timer.Reset(wait)
		}
		if !g.alone() {
			g.setJoined()
		}
	}
}

func (g *Gossip) setJoined() { g.joinedOnce.Do(func() { close(g.joined) }) }

// ask exchanges members with the nodes at these addresses.
func (g *Gossip) ask(ctx context.Context, list *memberlist.Memberlist, addresses []string) {
	var group errgroup.Group
	group.SetLimit(askAtOnce)
	for _, address := range addresses {
		group.Go(func() error {
			if _, err := netip.ParseAddrPort(address); err != nil || ctx.Err() != nil {
				return nil // a name that has no address yet
			}
			if _, err := list.Join([]string{address}); err != nil {
				g.log.LogAttrs(ctx, slog.LevelDebug, "no answer", slog.String("address", address), slog.Any("error", err))
			}
			return nil
		})
	}
	_ = group.Wait()
}

// targets are the seeds that are no members now, a few members that are gone (a
// farm that was split has them on the other side), and members whose ring differs.
func (g *Gossip) targets(ctx context.Context) []string {
	here := make(map[string]bool)
	var gone, out []string
	for _, m := range g.Members() {
		switch {
		case m.Alive():
			here[m.GossipAddr] = true
		case m.State == Gone:
			gone = append(gone, m.GossipAddr)
		}
	}
	for _, seed := range g.cfg.Seeds {
		out = append(out, g.seats.found(seed, g.resolve(ctx, seed))...)
	}
	for _, address := range g.cfg.Known {
		out = append(out, g.resolve(ctx, address)...)
	}
	out = append(out, some(gone, rejoinTries)...)
	out = slices.DeleteFunc(out, func(address string) bool { return here[address] })
	for _, id := range some(g.agreement.due(time.Now(), g.cfg.Timings.DisagreeAfter), rejoinTries) {
		if m, ok := g.Member(id); ok && m.Alive() {
			out = append(out, m.GossipAddr)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// some returns at most n of all, at random.
func some(all []string, n int) []string {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

func (g *Gossip) resolve(ctx context.Context, seed string) []string {
	host, port, err := splitSeed(seed)
	if err != nil {
		return nil // Validate has said so
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{netip.AddrPortFrom(ip.Unmap(), port).String()}
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timings.StreamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		g.log.LogAttrs(ctx, slog.LevelDebug, "seed not resolved", slog.String("seed", seed), slog.Any("error", err))
		// The seed counts as one that does not answer yet: its name may come later.
		return []string{net.JoinHostPort(host, strconv.Itoa(int(port)))}
	}
	var out []string
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), port).String())
	}
	return out
}

// alone says that no other member is alive.
func (g *Gossip) alone() bool {
	for _, m := range g.Members() {
		if m.Alive() && m.ID != g.cfg.ID {
			return false
		}
	}
	return true
}

// Snapshot lists the members that are alive for a peer, which gives it to Merge.
func (g *Gossip) Snapshot() []byte {
	s := &gossippb.Snapshot{Farm: g.cfg.Farm}
	for _, m := range g.Members() {
		if m.Alive() && m.GossipAddr != "" && len(s.Contacts) < maxSnapshot && !g.refuses(m.ID) {
			s.Contacts = append(s.Contacts, &gossippb.Contact{Id: m.ID, GossipAddress: m.GossipAddr})
		}
	}
	raw, err := proto.Marshal(s)
	if err != nil {
		return nil
	}
	return raw
}

// Merge takes a peer's Snapshot: when it names members that are unknown here, Run
// asks one of them for all it knows. Merge does not wait for that. The error says
// that it is no Snapshot of this farm.
func (g *Gossip) Merge(snapshot []byte) error {
	contacts, err := decodeSnapshot(snapshot, g.cfg.Farm)
	if err != nil {
		return fmt.Errorf("merge a peer's members: %w", err)
	}
	var unknown []string
	for id, address := range contacts {
		if m, ok := g.Member(id); (!ok || !m.Alive()) && !g.refuses(id) {
			unknown = append(unknown, address)
		}
	}
	for _, address := range some(unknown, rejoinTries) {
		select {
		case g.contacts <- address:
		default: // enough others wait
		}
	}
	return nil
}

func decodeSnapshot(raw []byte, farm string) (map[string]string, error) {
	var s gossippb.Snapshot
	if err := proto.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("no snapshot: %w", err)
	}
	if s.Farm != farm || len(s.Contacts) > maxSnapshot {
		return nil, fmt.Errorf("snapshot of farm %.64q with %d members", s.Farm, len(s.Contacts))
	}
	contacts := make(map[string]string, len(s.Contacts))
	for _, c := range s.Contacts {
		if err := checkTexts(c.Id); err != nil {
			return nil, err
		}
		address, err := parseContact(c.GossipAddress)
		if err != nil {
			return nil, err
		}
		contacts[c.Id] = address
	}
	return contacts, nil
}

// parseContact reads the address of a node that another one told of.
func parseContact(text string) (string, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Port() == 0 {
		return "", fmt.Errorf("gossip address %.80q", text)
	}
	return a.String(), nil
}
