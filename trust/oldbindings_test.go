package trust

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// bound are the ids of which the catalog knows whose key it is.
func (w *town) bound() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for _, key := range slices.Sorted(maps.Keys(w.ledger)) {
		if id, ok := strings.CutPrefix(key, nodesKey); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestKeysOfNodesThatAreGoneForGoodAreForgotten(t *testing.T) {
	inTown(t, Config{Lifetime: 6 * time.Hour, Back: time.Hour, Grace: 12 * time.Hour}, func(t *testing.T, w *town) {
		all := w.farm(1, "a", "b", "c", "d")
		gone, asleep := all[3], all[2]
		gone.down()
		asleep.down()
		time.Sleep(17 * time.Hour) // 11 h after its certificate has run out
		if err := w.open("c").Renew(t.Context(), []string{"b"}); err != nil {
			t.Fatalf("Renew within the grace = %v", err)
		}
		time.Sleep(6 * time.Hour)
		if got := fmt.Sprint(w.bound()); got != "[a b c d]" {
			t.Errorf("after 23 h keys of %s are known; want all: d's certificate ran out 17 h ago", got)
		}
		took := w.eventually(3*time.Hour, "the key of d is forgotten", func() bool { return !slices.Contains(w.bound(), "d") })
		if got := fmt.Sprint(w.bound()); got != "[a b c]" {
			t.Errorf("after 23 h and %v keys of %s are known; want those of who is there or may come back", took, got)
		}
		time.Sleep(10 * time.Hour) // c was away for 16 h, and its certificate ran out 10 h ago: longer than what it is good for
		if got := fmt.Sprint(w.bound()); got != "[a b c]" {
			t.Errorf("after a day and a half keys of %s are known; want that of c, too", got)
		}
		copied, err := all[0].copied()
		if err != nil || slices.ContainsFunc(copied, func(n *trustpb.Copy_Node) bool { return n.GetId() == "d" }) || len(copied) != 3 {
			t.Errorf("on the voter's disk are %v, %v; want a, b and c", copied, err)
		}
		// It cannot renew, and whoever has a token may have its id.
		d := w.open("d")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := d.Renew(ctx, []string{"a"}); err == nil || d.Member() {
			t.Errorf("Renew of who was away for too long = %v, member %v; want neither", err, d.Member())
		}
		other := w.open("other")
		other.node = "d"
		if err := other.Join(t.Context(), w.token(all[0], 1), []string{"a"}); err != nil {
			t.Errorf("Join under an id that is free again = %v", err)
		}
		if err := w.open("d").Join(t.Context(), w.token(all[0], 1), []string{"a"}); !errors.Is(err, ErrTaken) {
			t.Errorf("Join under an id that has a new owner = %v; want ErrTaken", err)
		}
	})
}

func TestAFarmWhoseNodesComeAndGoKeepsFewKeys(t *testing.T) {
	inTown(t, Config{Lifetime: 6 * time.Hour, Back: time.Hour, Grace: 6 * time.Hour}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		most := 0
		for i := range 60 {
			n := w.open(fmt.Sprintf("n%02d", i))
			if err := n.Join(t.Context(), w.token(a, 1), []string{"a"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // a node lives for no longer
			most = max(most, len(w.bound()))
		}
		if most > 22 { // 18 h, and an hour each for looking and for a's own
			t.Errorf("the catalog had %d keys at a time; want those of the last 18 h", most)
		}
		time.Sleep(20 * time.Hour)
		if got := fmt.Sprint(w.bound()); got != "[a]" {
			t.Errorf("in the end keys of %s are known; want that of a", got)
		}
	})
}

func TestKeysOfWhichNoEndIsKnownAreDatedFirst(t *testing.T) {
	inTown(t, Config{Lifetime: 6 * time.Hour, Back: time.Hour, Grace: 6 * time.Hour}, func(t *testing.T, w *town) {
		a := w.farm(1, "a")[0]
		raw, err := proto.Marshal(&trustpb.NodeRecord{KeySha256: make([]byte, 32), Joined: 1})
		if err != nil {
			t.Fatal(err)
		}
		l := &houseLedger{a}
		for i := range maxDropped + 10 {
			if _, err := l.Swap(t.Context(), fmt.Sprintf("%sold%d", nodesKey, i), raw, 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(17 * time.Hour)
		if got := len(w.bound()); got != maxDropped+11 {
			t.Errorf("%d keys after 17 h; want all %d: nobody knows when their certificates run out", got, maxDropped+11)
		}
		time.Sleep(5 * time.Hour)
		if got := fmt.Sprint(w.bound()); got != "[a]" {
			t.Errorf("after 22 h keys of %.60s are known; want that of a alone", got)
		}
	})
}

func TestWhoRenewsAllTheTimeWritesNothing(t *testing.T) {
	inTown(t, Config{}, func(t *testing.T, w *town) {
		b := w.farm(1, "a", "b")[1]
		w.mu.Lock()
		before := w.index
		w.mu.Unlock()
		for range 10 {
			if err := b.renewByCall(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.index != before {
			t.Errorf("ten renewals wrote %d times; want not at all", w.index-before)
		}
	})
}
