package swarm_test

import (
	"testing"

	"github.com/pullonce/pullonce/swarm"
)

func TestBeyondTheSlotsTheAnswerIsBusyAtOnce(t *testing.T) {
	u := swarm.NewUploads(8)
	for p := range swarm.Peer(7) {
		if !u.Admit(p, false, 0) {
			t.Fatalf("request %d was refused; want 7 of 8 slots for anyone", p)
		}
	}
	if u.Admit(8, false, 0) {
		t.Error("the last slot went to a request that is not urgent")
	}
	if !u.Admit(8, true, 0) || u.Admit(9, true, 0) {
		t.Error("the last slot is for one urgent request")
	}
	if got := u.Load(); got != 8 {
		t.Errorf("Load = %d; want 8", got)
	}
	u.Done(3)
	u.Done(3)
	if got := u.Load(); got != 7 {
		t.Errorf("Load = %d after one slot was given back twice; want 7", got)
	}
}

func TestOneAskerCannotKeepTheOthersOut(t *testing.T) {
	u := swarm.NewUploads(9)
	for range 8 {
		u.Admit(1, false, 0)
	}
	if u.Admit(2, false, 0) {
		t.Fatal("there should be no slot left")
	}
	for range 5 {
		u.Done(1)
	}
	if u.Admit(1, false, ms) && u.Admit(1, false, ms) { //nolint:revive,staticcheck // each call asks anew
		t.Error("peer 1 takes more than its half while peer 2 waits")
	}
	if !u.Admit(2, false, ms) {
		t.Error("peer 2 was refused although slots are free")
	}
	if !u.Admit(1, false, ms) {
		t.Error("peer 1 was refused although nobody waits")
	}
}

func TestAFarmOfOneSlotServes(t *testing.T) {
	u := swarm.NewUploads(1)
	if !u.Admit(1, false, 0) || u.Admit(2, true, 0) {
		t.Error("one slot must serve one, urgent or not")
	}
}
