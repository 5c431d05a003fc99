package swarm_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pullonce/pullonce/piece"
	"github.com/pullonce/pullonce/swarm"
)

func seeder(pieces int, targets ...swarm.Peer) *swarm.Seeder {
	s := swarm.NewSeeder(swarm.DefaultSeeder(pieces), seeded(2))
	for _, p := range targets {
		s.AddTarget(p, nil)
	}
	return s
}

func TestNoPieceLeavesTwiceBeforeAllHaveLeftOnce(t *testing.T) {
	for _, hosts := range []int{1, 2, 3, 7, 100} {
		s := seeder(200)
		for p := range hosts {
			s.AddTarget(swarm.Peer(p), nil)
		}
		left, rng := map[int]int{}, seeded(uint64(hosts))
		var open []swarm.Push
		for now := time.Duration(0); !s.Done(); now += ms {
			if i := int(now / ms); i < 200 {
				s.Add(i) // known one after the other, as the upstream sends them
			}
			for _, p := range s.Next(now, 8) {
				left[p.Piece]++
				open = append(open, p)
				if left[p.Piece] > 1 {
					t.Fatalf("%d hosts: piece %d left twice", hosts, p.Piece)
				}
			}
			for len(open) > 0 && rng.IntN(3) > 0 {
				k := rng.IntN(len(open))
				s.Acked(open[k].Peer, open[k].Piece, now)
				open = slices.Delete(open, k, k+1)
			}
			if now > time.Minute {
				t.Fatalf("%d hosts: not done after a minute", hosts)
			}
		}
		if len(left) != 200 {
			t.Errorf("%d hosts: %d pieces left; want all 200", hosts, len(left))
		}
	}
}

func TestPushesAreSpreadOverThePeers(t *testing.T) {
	s := seeder(64, 1, 2, 3, 4)
	got := map[swarm.Peer]int{}
	for i := range 64 {
		s.Add(i)
		for _, p := range s.Next(time.Duration(i)*ms, 8) {
			got[p.Peer]++
			s.Acked(p.Peer, p.Piece, time.Duration(i)*ms)
		}
	}
	for p := swarm.Peer(1); p <= 4; p++ {
		if got[p] != 16 {
			t.Errorf("pushes = %v; want 16 each", got)
		}
	}
}

func TestAPeerThatDoesNotAcknowledgeGetsNoMore(t *testing.T) {
	s := seeder(100, 1, 2)
	for i := range 100 {
		s.Add(i)
	}
	count := map[swarm.Peer]int{}
	for range 50 {
		for _, p := range s.Next(0, 8) {
			count[p.Peer]++
			if p.Peer == 2 {
				s.Acked(2, p.Piece, 0)
			}
		}
	}
	if count[1] != 4 {
		t.Errorf("the silent peer got %d pushes; want 4", count[1])
	}
}

func TestAPieceThatOnlyALostPeerHadLeavesAgain(t *testing.T) {
	s := seeder(3, 1)
	for i := range 3 {
		s.Add(i)
	}
	for _, p := range slices.Clone(s.Next(0, 8)) {
		if p.Piece != 2 {
			s.Acked(1, p.Piece, ms)
		}
	}
	s.Elsewhere([]uint32{0}) // somebody else has it
	s.RemoveTarget(1)
	s.AddTarget(2, nil)
	var again []int
	for _, p := range s.Next(2*ms, 8) {
		again = append(again, p.Piece)
	}
	slices.Sort(again)
	if want := []int{1, 2}; !slices.Equal(again, want) {
		t.Errorf("pushed again: %v; want %v", again, want)
	}
}

func TestAStalledPushGoesToAnotherPeer(t *testing.T) {
	s := seeder(1, 1, 2)
	s.Add(0)
	first := s.Next(0, 8)[0]
	at, ok := s.NextWake(0)
	if !ok {
		t.Fatal("NextWake = never")
	}
	next := s.Next(at, 8)
	if len(next) != 1 || next[0].Peer == first.Peer {
		t.Errorf("Next when overdue = %v; want the other peer than %v", next, first)
	}
	if got := s.Overdue(); len(got) != 1 || got[0] != first {
		t.Errorf("Overdue = %v; want %v", got, first)
	}
}

func TestRequestsWaitWhilePiecesHaveNotLeft(t *testing.T) {
	s := seeder(3, 1, 2)
	for i := range 3 {
		s.Add(i)
	}
	s.Next(0, 1)
	if s.Admit(2, 0, false) {
		t.Error("a piece that has left was given while others had not")
	}
	if !s.Admit(2, 0, true) {
		t.Error("an asker without another source was refused")
	}
	if !s.Admit(2, 2, false) {
		t.Error("a piece that had not left was refused")
	}
	if got := s.Next(0, 8); len(got) != 1 || got[0].Piece != 1 {
		t.Errorf("Next = %v; want piece 1 alone, 2 has left by the request", got)
	}
}

func TestWhatOthersHaveIsNotPushed(t *testing.T) {
	s := seeder(4)
	s.AddTarget(1, bitmap(4, 0, 1))
	s.MarkOut(bitmap(4, 2))
	for i := range 4 {
		s.Add(i)
	}
	if got := s.Next(0, 8); len(got) != 1 || got[0].Piece != 3 {
		t.Errorf("Next = %v; want piece 3 alone", got)
	}
	s.MarkOut(piece.FullBitmap(4))
	s.Acked(1, 3, 0)
	if !s.Done() {
		t.Error("Done = false; all are out")
	}
}
