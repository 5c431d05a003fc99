package gossip

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// seatTable is where the entries of the seed list led when they were last looked up.
type seatTable struct {
	seeds []string
	own   ownAddresses

	mu    sync.Mutex
	leads map[string]lead
}

// lead is where one entry leads.
type lead struct {
	addresses []netip.AddrPort
	mine      bool
}

func newSeatTable(cfg Config) *seatTable {
	s := &seatTable{seeds: slices.Clone(cfg.Seeds), own: newOwnAddresses(cfg), leads: make(map[string]lead)}
	for _, seed := range s.seeds {
		if host, port, err := splitSeed(seed); err == nil {
			if ip, err := netip.ParseAddr(host); err == nil { // known before anything is looked up
				s.found(seed, []string{netip.AddrPortFrom(ip.Unmap(), port).String()})
			}
		}
	}
	return s
}

// found notes where an entry leads and returns that. What cannot be looked up now leads where it did.
func (s *seatTable) found(seed string, texts []string) []string {
	var l lead
	for _, text := range texts {
		if a, err := netip.ParseAddrPort(text); err == nil {
			l.addresses = append(l.addresses, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
	if len(l.addresses) == 0 {
		return texts
	}
	l.mine = s.own.lead(seed, l.addresses)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads[seed] = l
	return texts
}

// of lists the entries that lead to the member with that address for gossip.
func (s *seatTable) of(address string, self bool) []string {
	at, err := netip.ParseAddrPort(address)
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, seed := range s.seeds {
		l, ok := s.leads[seed]
		switch {
		case !ok || slices.Contains(out, seed):
		case self && l.mine, err == nil && leadsOnlyTo(l.addresses, at) && !(l.mine && !self):
			out = append(out, seed)
		}
	}
	return out
}

// leadsOnlyTo says that at is among the addresses and that no other one of its family is: a name that many nodes share
// is the seat of none of them.
func leadsOnlyTo(addresses []netip.AddrPort, at netip.AddrPort) bool {
	found := false
	for _, a := range addresses {
		switch {
		case a == at:
			found = true
		case a.Addr().Is4() == at.Addr().Is4():
			return false
		}
	}
	return found
}

// Seats lists the entries of this node's seed list that lead to a member, itself included, as they are written there:
// each when no other address of the family shares it. It goes by the last look-up and never blocks; an entry that could
// not be looked up yet leads to nobody.
func (g *Gossip) Seats(id string) []string {
	m, ok := g.table.member(id)
	if !ok {
		return nil
	}
	return g.seats.of(m.GossipAddr, id == g.cfg.ID)
}

// ownAddresses are those that this node can be reached at.
type ownAddresses struct {
	listen, advertise netip.AddrPort
	here              bool // the network is this machine's
}

func newOwnAddresses(cfg Config) ownAddresses {
	if cfg.Transport != nil {
		return ownAddresses{}
	}
	listen, advertise, err := cfg.addresses()
	if err != nil {
		return ownAddresses{}
	}
	return ownAddresses{listen: listen, advertise: advertise, here: true}
}

// lead says that an entry leads to this node and to no other.
func (o ownAddresses) lead(seed string, addresses []netip.AddrPort) bool {
	if !o.here {
		return false
	}
	// What every machine calls itself names none of them, unless the farm lives on one machine.
	shared := everyones(seed)
	if shared && !o.advertise.Addr().IsLoopback() {
		return false
	}
	machine := machineAddresses()
	return !slices.ContainsFunc(addresses, func(a netip.AddrPort) bool { return !o.is(a, machine, !shared) })
}

// is says that an address is this node's. A machine's own name often leads to its loopback there.
func (o ownAddresses) is(a netip.AddrPort, machine []netip.Addr, named bool) bool {
	switch {
	case a == o.advertise && a.Port() != 0:
		return true
	case a.Port() != o.listen.Port():
		return false
	case named && a.Addr().IsLoopback():
		return true
	case o.listen.Addr().IsUnspecified():
		return slices.Contains(machine, a.Addr())
	default:
		return a.Addr() == o.listen.Addr().Unmap()
	}
}

// everyones says that an entry means another machine on every machine.
func everyones(seed string) bool {
	host, _, err := splitSeed(seed)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	first, _, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	return first == "localhost" || strings.HasSuffix(first, "-localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost")
}

func machineAddresses() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}
