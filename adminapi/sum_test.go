package adminapi_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
)

func TestSumAddsUpEveryCounterOfThoseThatAnswered(t *testing.T) {
	one := adminapi.NodeStatus{
		Store: adminapi.Store{Blobs: 1, Bytes: 2, PartialBytes: 3, MaxBytes: 4},
		Served: adminapi.Served{
			Disk: adminapi.Source{Bytes: 50, Requests: 5}, Peer: adminapi.Source{Bytes: 40, Requests: 6},
			Upstream: adminapi.Source{Bytes: 10, Requests: 7},
		},
		Upstream: adminapi.Upstream{BytesReceived: 11, Requests: 8},
		Peers: adminapi.Peers{
			BytesSent: 12, BytesReceived: 13, PiecesSent: 14, PiecesReceived: 15, Duplicates: 16, Mismatches: 17,
		},
		Swarms: adminapi.Swarms{Now: 18, Fetching: 19},
	}
	got := adminapi.Sum([]adminapi.MemberStatus{{Node: &one}, {}, {Node: &one}})
	want := adminapi.Totals{
		Members: 3, Answered: 2, Blobs: 2, Bytes: 4, PartialBytes: 6, MaxBytes: 8,
		Served: adminapi.Served{
			Disk: adminapi.Source{Bytes: 100, Requests: 10}, Peer: adminapi.Source{Bytes: 80, Requests: 12},
			Upstream: adminapi.Source{Bytes: 20, Requests: 14}, HitRatio: 0.9,
		},
		UpstreamBytes: 22, UpstreamCalls: 16, SavedBytes: 178,
		Peers: adminapi.Peers{
			BytesSent: 24, BytesReceived: 26, PiecesSent: 28, PiecesReceived: 30, Duplicates: 32, Mismatches: 34,
		},
		Swarms: adminapi.Swarms{Now: 36, Fetching: 38},
	}
	if got != want {
		t.Errorf("Sum() =\n%+v\nwant\n%+v", got, want)
	}
}

func TestSumOfNobodyIsNothing(t *testing.T) {
	if got := adminapi.Sum(nil); got != (adminapi.Totals{}) {
		t.Errorf("Sum(nil) = %+v; want zero", got)
	}
}

func TestSumDoesNotDependOnTheOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	members := make([]adminapi.MemberStatus, 50)
	for i := range members {
		n := &adminapi.NodeStatus{}
		n.Store.Bytes, n.Served.Peer.Bytes, n.Upstream.BytesReceived = random.Int64N(1e12), random.Int64N(1e12), random.Int64N(1e12)
		members[i].Node = n
	}
	want := adminapi.Sum(members)
	random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	if got := adminapi.Sum(members); got != want {
		t.Errorf("Sum(shuffled) = %+v; want %+v", got, want)
	}
}
