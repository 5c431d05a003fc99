package gossip

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	gossippb "github.com/pullonce/pullonce/proto/gossip"
)

func TestMetadataAlwaysFits(t *testing.T) {
	long := strings.Repeat("x", maxTextBytes)
	m := Member{
		ID: long, BootID: long, Zone: long, Version: long, State: Draining, Egress: true,
		PeerAddr: "255.255.255.255:65535", PeerAddr6: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
		ProtoMin: 1<<32 - 1, ProtoMax: 1<<32 - 1, Epoch: 1<<64 - 1,
	}
	raw, err := encodeMeta(m, long, maxPadding)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the longest metadata has %d bytes", len(raw))
	if len(raw) > maxMetaBytes {
		t.Errorf("encodeMeta of the longest member: %d bytes; want at most %d", len(raw), maxMetaBytes)
	}
	m.GossipAddr = "10.0.0.1:7946"
	got, farm, err := decodeMeta(long, m.GossipAddr, raw)
	if err != nil || farm != long || got != m {
		t.Errorf("decodeMeta = %+v, %q, %v; want %+v", got, farm, err, m)
	}
}

func TestMetadataThatCannotBeIsRefused(t *testing.T) {
	fits := Member{ID: "a", State: Active}
	for what, change := range map[string]func(*Member){
		"no id":              func(m *Member) { m.ID = "" },
		"long id":            func(m *Member) { m.ID = strings.Repeat("x", maxIDBytes+1) },
		"long zone":          func(m *Member) { m.Zone = strings.Repeat("x", maxTextBytes+1) },
		"no text":            func(m *Member) { m.Version = "\xff" },
		"no state":           func(m *Member) { m.State = "" },
		"gone":               func(m *Member) { m.State = Gone },
		"a name as address":  func(m *Member) { m.PeerAddr = "localhost:7947" },
		"two IPv4 addresses": func(m *Member) { m.PeerAddr, m.PeerAddr6 = "10.0.0.1:1", "10.0.0.2:1" },
		"a zoned address":    func(m *Member) { m.PeerAddr = "[fe80::1%eth0]:1" },
	} {
		m := fits
		change(&m)
		if _, err := encodeMeta(m, "farm", 0); err == nil {
			t.Errorf("encodeMeta with %s = nil; want an error", what)
		}
	}
}

func FuzzMeta(f *testing.F) {
	raw, err := encodeMeta(Member{ID: "a", State: Active, Zone: "z", PeerAddr: "10.0.0.1:1", PeerAddr6: "[::1]:2", Epoch: 7}, "farm", 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("node", raw)
	f.Add("node", []byte{})
	f.Fuzz(func(t *testing.T, id string, raw []byte) {
		m, farm, err := decodeMeta(id, "10.0.0.1:7946", raw)
		if err != nil {
			return
		}
		again, err := encodeMeta(m, farm, maxPadding)
		if err != nil {
			t.Fatalf("encodeMeta(%+v) = %v after it was decoded", m, err)
		}
		if got, _, err := decodeMeta(id, "10.0.0.1:7946", again); err != nil || got != m {
			t.Fatalf("a round trip made %+v of %+v (%v)", got, m, err)
		}
	})
}

func FuzzExchange(f *testing.F) {
	cfg := testConfig()
	cfg.Refuse = func(id string) bool { return strings.HasPrefix(id, "refused") }
	g, err := New(cfg, discard())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := g.say(Member{ID: "self", State: Active, GossipAddr: "10.0.0.1:7946"}); err != nil {
		f.Fatal(err)
	}
	f.Add(g.Snapshot())
	f.Add(delegate{g}.LocalState(false))
	for _, id := range []string{"a", "refused"} {
		meta, err := encodeMeta(Member{ID: id, State: Active, Epoch: 7}, cfg.Farm, 3)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := proto.Marshal(&gossippb.LocalState{Id: id, Farm: cfg.Farm, RingHash: 7, Held: []*gossippb.Held{
			{Id: id, Meta: meta, GoneMs: 1, GossipAddress: "10.0.0.2:7946"},
		}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := len(g.Members())
		_ = g.Merge(raw)
		for len(g.contacts) > 0 {
			<-g.contacts
		}
		if len(g.Members()) != before {
			t.Fatal("a snapshot alone made a member")
		}
		delegate{g}.MergeRemoteState(raw, false)
		self, _ := g.Member("self")
		if self.State != Active || len(g.Members()) > maxHeld+1 {
			t.Fatalf("an exchange made this node %+v", self)
		}
		for _, m := range g.Members() {
			if cfg.Refuse(m.ID) {
				t.Fatalf("an exchange made %s a member, which is refused", m.ID)
			}
		}
		g.table.entries = map[string]*entry{"self": g.table.entries["self"]}
	})
}
