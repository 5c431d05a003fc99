package swarm_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

const ms = time.Millisecond

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func fetcher(pieces int, change ...func(*swarm.Config)) *swarm.Fetcher {
	cfg := swarm.Default(pieces)
	for _, c := range change {
		c(&cfg)
	}
	f := swarm.NewFetcher(cfg, nil, seeded(1))
	f.SetKnown(pieces)
	return f
}

func bitmap(n int, pieces ...int) *piece.Bitmap {
	b := piece.NewBitmap(n)
	for _, i := range pieces {
		b.Set(i)
	}
	return b
}

func pieces(requests []swarm.Request) []int {
	var list []int
	for _, r := range requests {
		list = append(list, r.Piece)
	}
	slices.Sort(list)
	return list
}

// learn lets the fetcher see how long a piece usually takes.
func learn(f *swarm.Fetcher, now, took time.Duration, n int) time.Duration {
	for range n {
		for _, r := range slices.Clone(f.Next(now, 1)) {
			now += took
			f.Received(r.Peer, r.Piece, now)
		}
	}
	return now
}

func TestNothingIsAskedBeforeItCanBeChecked(t *testing.T) {
	f := swarm.NewFetcher(swarm.Default(10), nil, seeded(1))
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(10))
	if got := f.Next(0, 10); len(got) != 0 {
		t.Fatalf("Next with no midstate known = %v; want nothing", got)
	}
	f.SetKnown(3)
	if got, want := pieces(f.Next(0, 10)), []int{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("Next with 3 known = %v; want %v", got, want)
	}
}

func TestRarestPieceGoesFirst(t *testing.T) {
	f := fetcher(4)
	f.AddPeer(1, swarm.PeerInfo{}, bitmap(4, 0, 1, 2, 3))
	f.AddPeer(2, swarm.PeerInfo{}, bitmap(4, 0, 1, 3))
	f.AddPeer(3, swarm.PeerInfo{}, bitmap(4, 0, 1))
	if got, want := f.Next(0, 1), (swarm.Request{Peer: 1, Piece: 2}); len(got) != 1 || got[0] != want {
		t.Errorf("Next = %v; want %v, which only one neighbour has", got, want)
	}
}

func TestWantedPiecesGoFirstWithinTheirShare(t *testing.T) {
	f := fetcher(64)
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(64))
	f.AddPeer(2, swarm.PeerInfo{}, piece.FullBitmap(64))
	f.AddPeer(3, swarm.PeerInfo{}, bitmap(64, 5, 6, 7, 8))
	f.SetWanted(5, 9)
	got := f.Next(0, 4)
	if len(got) != 4 || got[0].Piece != 5 || got[1].Piece != 6 {
		t.Fatalf("Next = %v; want 4 requests that start with 5 and 6", got)
	}
	for _, r := range got[2:] {
		if r.Piece >= 5 && r.Piece < 9 {
			t.Errorf("Next asks for %d as well; want the rarest beyond the share of two", r.Piece)
		}
	}
}

func TestWindowConfinesRequests(t *testing.T) {
	f := fetcher(32)
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(32))
	f.SetWindow(4, 6)
	if got, want := pieces(f.Next(0, 8)), []int{4, 5}; !slices.Equal(got, want) {
		t.Errorf("Next = %v; want %v", got, want)
	}
	f.SetWindow(0, 32)
	if got := f.Next(0, 8); len(got) != 6 {
		t.Errorf("Next after the window opened = %v; want 6 more", got)
	}
}

func TestQuietPeersOfTheOwnZoneAreAskedFirst(t *testing.T) {
	f := fetcher(1)
	f.AddPeer(1, swarm.PeerInfo{SameZone: true}, bitmap(1, 0))
	f.AddPeer(2, swarm.PeerInfo{}, bitmap(1, 0))
	f.AddPeer(3, swarm.PeerInfo{SameZone: true}, bitmap(1, 0))
	f.Load(1, 5)
	if got := f.Next(0, 1); len(got) != 1 || got[0].Peer != 3 {
		t.Errorf("Next = %v; want peer 3", got)
	}
}

func TestABusyPeerIsLeftAloneForAsLongAsItSays(t *testing.T) {
	f := fetcher(1)
	f.AddPeer(1, swarm.PeerInfo{}, bitmap(1, 0))
	f.Next(0, 1)
	f.Busy(1, 0, ms, 10*ms)
	if got := f.Next(10*ms, 1); len(got) != 0 {
		t.Errorf("Next 1 ms too early = %v; want nothing", got)
	}
	if at, ok := f.NextWake(10 * ms); !ok || at != 11*ms {
		t.Errorf("NextWake = %v, %v; want 11ms", at, ok)
	}
	if got := f.Next(11*ms, 1); len(got) != 1 {
		t.Errorf("Next in time = %v; want the request again", got)
	}
}

func TestOverduePieceIsAskedTwiceAndTheSlowerAnswerCancelled(t *testing.T) {
	f := fetcher(20)
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(20))
	f.AddPeer(2, swarm.PeerInfo{}, piece.FullBitmap(20))
	f.SetWindow(0, 19)
	now := learn(f, 0, 10*ms, 12)
	f.SetWindow(19, 20)
	first := f.Next(now, 8)
	if len(first) != 1 {
		t.Fatalf("Next = %v; want the last piece", first)
	}
	one := first[0]
	if got := f.Next(now+15*ms, 8); len(got) != 0 {
		t.Fatalf("Next after one and a half times the usual = %v; want nothing", got)
	}
	f.Haves(now + 15*ms)
	at, ok := f.NextWake(now + 15*ms)
	if !ok || at < now+20*ms || at > now+60*ms {
		t.Fatalf("NextWake = %v; want soon after twice the usual 10ms from %v", at, now)
	}
	second := f.Next(at, 8)
	if len(second) != 1 || !second[0].Duplicate || second[0].Piece != one.Piece || second[0].Peer == one.Peer {
		t.Fatalf("Next when overdue = %v; want piece %d of the other peer as well", second, one.Piece)
	}
	two := second[0]
	if !f.Received(two.Peer, two.Piece, at+5*ms) {
		t.Error("Received = false for a new piece")
	}
	if got := f.Cancels(); len(got) != 1 || got[0].Peer != one.Peer || got[0].Piece != one.Piece {
		t.Errorf("Cancels = %v; want %v", got, one)
	}
	if f.Received(one.Peer, one.Piece, at+6*ms) {
		t.Error("Received = true for the slower answer")
	}
}

func TestAStalledPeerLosesItsPieceToAnother(t *testing.T) {
	f := fetcher(1, func(c *swarm.Config) { c.StallAfter = 100 * ms })
	f.AddPeer(1, swarm.PeerInfo{}, bitmap(1, 0))
	f.Next(0, 1)
	f.Progress(1, 0, 60*ms)
	if got := f.Next(110*ms, 1); len(got) != 0 || len(f.Cancels()) != 0 {
		t.Fatalf("a peer that sends was given up: %v", got)
	}
	f.AddPeer(2, swarm.PeerInfo{}, bitmap(1, 0))
	got := f.Next(160*ms, 1)
	if len(got) != 1 || got[0].Peer != 2 {
		t.Fatalf("Next after the stall = %v; want peer 2", got)
	}
	if c := f.Cancels(); len(c) != 1 || c[0].Peer != 1 {
		t.Errorf("Cancels = %v; want the stalled request", c)
	}
}

func TestALiarIsNeverAskedAgain(t *testing.T) {
	f := fetcher(8)
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(8))
	r := f.Next(0, 1)[0]
	f.Failed(1, r.Piece, swarm.Mismatch, ms)
	if f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(8)) || !f.Lied(1) || f.HasPeer(1) {
		t.Error("a peer that lied is a neighbour again")
	}
	if got := f.Next(time.Hour, 8); len(got) != 0 {
		t.Errorf("Next = %v; want nothing, the only peer lied", got)
	}
}

func TestAPushInFlightIsNotAskedFor(t *testing.T) {
	f := fetcher(2)
	f.AddPeer(1, swarm.PeerInfo{}, piece.FullBitmap(2))
	if !f.Expect(0, 0) || f.Expect(0, 0) {
		t.Fatal("Expect must take a piece once")
	}
	if got, want := pieces(f.Next(0, 8)), []int{1}; !slices.Equal(got, want) {
		t.Errorf("Next = %v; want %v", got, want)
	}
	if got := f.Outstanding(); got != 2 {
		t.Errorf("Outstanding = %d; want 2", got)
	}
	f.Unexpect(0)
	if got, want := pieces(f.Next(0, 8)), []int{0}; !slices.Equal(got, want) {
		t.Errorf("Next after the push broke = %v; want %v", got, want)
	}
}

func TestASeedingPeerIsTheLastResort(t *testing.T) {
	f := fetcher(1)
	f.AddPeer(1, swarm.PeerInfo{Seeding: true}, bitmap(1, 0))
	if got := f.Next(0, 1); len(got) != 0 {
		t.Fatalf("Next = %v; want nothing yet", got)
	}
	at, ok := f.NextWake(0)
	if !ok {
		t.Fatal("NextWake = never; want when patience ends")
	}
	got := f.Next(at, 1)
	if len(got) != 1 || !got[0].LastResort || !got[0].Urgent() {
		t.Errorf("Next at %v = %v; want a last resort", at, got)
	}
}

func TestAClientThatWaitsLongIsServedByASeedingPeer(t *testing.T) {
	f := fetcher(64)
	f.AddPeer(1, swarm.PeerInfo{Seeding: true}, piece.FullBitmap(64))
	f.AddPeer(2, swarm.PeerInfo{}, bitmap(64, 1, 2, 3))
	f.SetWanted(50, 54)
	for _, r := range f.Next(0, 2) {
		if r.Peer != 2 {
			t.Fatalf("Next at once = %v; want the peer that is not seeding", r)
		}
	}
	at, ok := f.NextWake(0)
	patience := swarm.Default(64).Patience
	if !ok || at > patience {
		t.Fatalf("NextWake = %v; want when patience ends, after %v", at, patience)
	}
	found := false
	for _, r := range f.Next(patience, 8) {
		found = found || r == swarm.Request{Peer: 1, Piece: 50, LastResort: true}
	}
	if !found {
		t.Error("the piece that the client waits for was not asked of the only peer that has it")
	}
}

func TestNeighboursHearOfEachPieceOnce(t *testing.T) {
	f := fetcher(8)
	f.AddPeer(1, swarm.PeerInfo{}, bitmap(8, 0, 1))
	for p := swarm.Peer(2); p < 6; p++ {
		f.AddPeer(p, swarm.PeerInfo{}, bitmap(8, 1, 2))
	}
	f.Stored(1, 0)
	if got := f.Haves(0); len(got) != 0 {
		t.Errorf("Haves at once = %v; want none for what all have", got)
	}
	f.Stored(2, ms)
	if got := f.TakeHaves(1); !slices.Equal(got, []uint32{2}) {
		t.Errorf("TakeHaves(1) = %v; want [2]: it has 1", got)
	}
	if got := f.Haves(5 * ms); len(got) != 0 {
		t.Errorf("Haves after 5 ms = %v; want none, nobody lacks them", got)
	}
	f.Stored(0, 6*ms)
	got := f.Haves(6 * ms)
	if len(got) != 4 {
		t.Fatalf("Haves of a rare piece = %v; want it told at once to the four that lack it", got)
	}
	for _, b := range got {
		if b.Peer == 1 || !slices.Equal(b.Pieces, []uint32{0}) {
			t.Errorf("batch %v; want piece 0, and none for peer 1", b)
		}
	}
	if again := f.Haves(time.Second); len(again) != 0 {
		t.Errorf("Haves again = %v; want nothing new", again)
	}
}

func TestMoreNeighboursAreAskedForLessAndLessOften(t *testing.T) {
	f := fetcher(8)
	f.AddPeer(1, swarm.PeerInfo{}, nil)
	calls := 0
	for now := ms; now < 10*time.Second; now += ms {
		if f.NeedsPeers(now) {
			calls++
		}
	}
	if calls < 3 || calls > 10 {
		t.Errorf("NeedsPeers was true %d times in 10 s; want a few", calls)
	}
}

func TestTheSameSeedMakesTheSameChoices(t *testing.T) {
	run := func() []swarm.Request {
		f := swarm.NewFetcher(swarm.Default(256), nil, seeded(7))
		f.SetKnown(256)
		for p := range swarm.Peer(20) {
			f.AddPeer(p, swarm.PeerInfo{}, piece.FullBitmap(256))
		}
		var all []swarm.Request
		for now := time.Duration(0); !f.Complete(); now += ms {
			for _, r := range slices.Clone(f.Next(now, 3)) {
				all = append(all, r)
				f.Received(r.Peer, r.Piece, now)
			}
		}
		return all
	}
	if a, b := run(), run(); !slices.Equal(a, b) {
		t.Error("two runs with one seed differ")
	}
}
