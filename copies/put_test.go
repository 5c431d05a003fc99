package copies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func sortedIDs(nodes []*rigNode) (all []string) {
	for _, n := range nodes {
		all = append(all, n.id)
	}
	slices.Sort(all)
	return all
}

func TestAPushIsOnItsPlacesWhenItIsDone(t *testing.T) {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		for _, size := range []int{0, 1, 1000, offerFrom, mebi, 3*mebi + 5} {
			t.Run(fmt.Sprint(algorithm, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 5, nil, nil)
					data := blobstoretest.Data(uint64(size), size)
					d := oci.FromBytes(algorithm, data)
					order := r.order(d)
					for _, from := range []*rigNode{order[4], order[0], order[2]} { // no place of it, and two that are
						from.upload(data, algorithm)
						if err := from.Put(t.Context(), d, []byte("note-of-"+from.id)); err != nil {
							t.Fatalf("Put = %v; want nil", err)
						}
						if got, want := r.holders(d), sortedIDs(order[:3]); !slices.Equal(got, want) {
							t.Errorf("pushed by %s: on %v; want %v", from.id, got, want)
						}
					}
					want := order[0].cat.Merge([]byte("note-of-"+order[4].id+" note-of-"+order[0].id), []byte("note-of-"+order[2].id))
					for _, n := range order[:3] {
						if got := n.store.Note(d); string(got) != string(want) {
							t.Errorf("note on %s: %q; want %q", n.id, got, want)
						}
						n.clean()
					}
				})
			})
		}
	}
}

func TestWithFewerNodesUpWhatIsUpMustDo(t *testing.T) {
	for _, c := range []struct {
		nodes, up int
		want      error
	}{{1, 1, nil}, {2, 2, nil}, {2, 1, ErrTooFew}, {3, 2, nil}, {3, 1, ErrTooFew}, {5, 2, nil}, {5, 1, ErrTooFew}} {
		t.Run(fmt.Sprint(c.up, "of", c.nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, c.nodes, nil, nil)
				data := blobstoretest.Data(1, mebi)
				for _, n := range r.nodes[c.up:] {
					r.setDown(n.id, true)
				}
				d := r.nodes[0].upload(data, oci.SHA256)
				err := r.nodes[0].Put(t.Context(), d, nil)
				if !errors.Is(err, c.want) {
					t.Errorf("Put = %v; want %v", err, c.want)
				}
				if got := len(r.holders(d)); got != c.up {
					t.Errorf("on %d nodes; want %d", got, c.up)
				}
			})
		})
	}
}

func TestANodeThatFailsIsReplacedByTheNextPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := ""
		r := newRig(t, 5, nil, func(id string, c *blobstore.Config) {
			if id == "n2" {
				c.MaxHosted, full = 2*mebi, id
			}
		})
		data := blobstoretest.Data(1, 4*mebi)
		d := oci.FromBytes(oci.SHA256, data)
		order := slices.DeleteFunc(r.order(d), func(n *rigNode) bool { return n.id == full })
		order[0].cut() // it is believed to be up
		from := order[3]
		from.upload(data, oci.SHA256)
		if err := from.Put(t.Context(), d, nil); err != nil {
			t.Fatalf("Put = %v; want nil", err)
		}
		if got, want := r.holders(d), sortedIDs(order[1:4]); !slices.Equal(got, want) {
			t.Errorf("on %v; want %v", got, want)
		}
		r.node(full).clean()
	})
}

func TestWhatIsThereIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil, nil)
		data := blobstoretest.Data(1, 2*mebi)
		var d oci.Digest
		for _, n := range r.nodes {
			d = n.upload(data, oci.SHA256)
			if err := n.store.SetHosted(d, false); err != nil { // cached only
				t.Fatal(err)
			}
		}
		if err := r.nodes[0].Put(t.Context(), d, []byte("note")); err != nil {
			t.Fatal(err)
		}
		if got := r.holders(d); len(got) != 3 || r.nodes[0].Stats().Copied != 0 {
			t.Errorf("on %v, %d sent; want all, none sent", got, r.nodes[0].Stats().Copied)
		}
		for _, n := range r.nodes {
			if string(n.store.Note(d)) != "note" {
				t.Errorf("note on %s: %q", n.id, n.store.Note(d))
			}
		}
	})
}

func TestPutOfWhatIsNotHereIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil, nil)
		d := oci.FromBytes(oci.SHA256, []byte("none"))
		if err := r.nodes[0].Put(t.Context(), d, nil); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("Put = %v; want ErrNotFound", err)
		}
		if r.nodes[0].keptHere(d) {
			t.Error("Touch of what is not here is true")
		}
	})
}

func TestPushesOfOneBlobAtOnceShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, nil, nil)
		data := blobstoretest.Data(1, 5*mebi)
		var d oci.Digest
		for _, n := range r.nodes[:2] {
			d = n.upload(data, oci.SHA256)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := r.nodes[i%2].Put(t.Context(), d, fmt.Appendf(nil, "note%02d", i)); err != nil {
					t.Errorf("Put = %v; want nil", err)
				}
			})
		}
		all.Wait()
		order := r.order(d)
		received := int64(0)
		for _, n := range order[:3] {
			if !n.has(d) || len(n.store.Note(d)) != 20*7-1 {
				t.Errorf("%s: %v, note %q; want the blob and all notes", n.id, n.has(d), n.store.Note(d))
			}
			received += n.Stats().Received
		}
		if received > 3 {
			t.Errorf("%d copies were sent; want 3 at most", received)
		}
	})
}

func TestTheLastOneToLeaveEndsAPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil, nil)
		data := blobstoretest.Data(1, 2*mebi)
		d := r.nodes[0].upload(data, oci.SHA256)
		for _, n := range r.nodes[1:] {
			n.incoming.begin(d, hasty) // busy for ever
		}
		ctx, cancel := context.WithCancel(t.Context())
		stay := make(chan error, 2)
		go func() { stay <- r.nodes[0].Put(ctx, d, nil) }()
		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		if err := r.nodes[0].Put(short, d, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put = %v; want its deadline", err)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-stay:
			t.Errorf("Put ended with another's: %v", err)
		default:
		}
		cancel()
		if err := <-stay; !errors.Is(err, context.Canceled) {
			t.Errorf("Put = %v; want Canceled", err)
		}
	})
}

func TestABusyNodeIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(c *Config) { c.Incoming = 1 }, nil)
		data := blobstoretest.Data(1, 2*mebi)
		d := r.nodes[0].upload(data, oci.SHA256)
		other := oci.FromBytes(oci.SHA256, nil)
		r.nodes[1].incoming.begin(other, hasty) // all places are taken
		r.nodes[2].incoming.begin(d, hasty)     // it comes from elsewhere
		time.AfterFunc(30*time.Second, func() {
			r.nodes[1].incoming.end(other, hasty)
			r.nodes[2].upload(data, oci.SHA256)
			r.nodes[2].incoming.end(d, hasty)
		})
		if err := r.nodes[0].Put(t.Context(), d, nil); err != nil || len(r.holders(d)) != 3 {
			t.Errorf("Put = %v on %v; want nil on all", err, r.holders(d))
		}
		if got := r.nodes[2].Stats().Received; got != 0 {
			t.Errorf("n3 took %d; want what came from elsewhere", got)
		}
	})
}

func TestANodeThatStaysBusyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, func(c *Config) { c.Incoming = 1 }, nil)
		data := blobstoretest.Data(1, 2*mebi)
		d := oci.FromBytes(oci.SHA256, data)
		order := r.order(d)
		order[0].upload(data, oci.SHA256)
		order[1].incoming.begin(oci.FromBytes(oci.SHA256, nil), hasty) // for ever
		began := time.Now()
		if err := order[0].Put(t.Context(), d, nil); err != nil || len(r.holders(d)) != 3 {
			t.Errorf("Put = %v on %v; want nil on three others", err, r.holders(d))
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("Put took %v; want little more than twice the time for a commit", took)
		}
	})
}

func TestANoteBesideACachedCopyIsNoCopyOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, nil, nil)
		data := []byte("manifest")
		d := oci.FromBytes(oci.SHA256, data)
		order := r.order(d)
		order[3].upload(data, oci.SHA256) // no place of it
		if err := order[3].Put(t.Context(), d, []byte("a")); err != nil {
			t.Fatal(err)
		}
		for _, n := range order[1:3] {
			if err := n.store.Delete(d); err != nil {
				t.Fatal(err)
			}
		}
		if err := order[3].Note(t.Context(), d, []byte("b"), false); !errors.Is(err, ErrTooFew) {
			t.Errorf("Note with one copy and a cached one = %v; want ErrTooFew", err)
		}
	})
}

func TestWhatIsNotHereIsNotRemembered(t *testing.T) {
	r := newRig(t, 1, nil, nil)
	n := r.nodes[0]
	for i := range 1000 {
		d := oci.FromBytes(oci.SHA256, fmt.Append(nil, i))
		if n.keptHere(d) {
			t.Fatalf("keptHere(%s) = true; want false", d)
		}
		if _, ok := n.holds.noted(d); ok {
			t.Fatalf("a use of %s is remembered, which is not here", d)
		}
	}
}

func TestNotesReachAllPlacesThatHaveACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, nil, nil)
		d := r.nodes[0].upload([]byte("manifest"), oci.SHA256)
		if err := r.nodes[0].Note(t.Context(), d, []byte("a"), false); !errors.Is(err, ErrTooFew) {
			t.Errorf("Note with one copy = %v; want ErrTooFew", err)
		}
		if err := r.nodes[0].Put(t.Context(), d, []byte("b")); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			note    string
			replace bool
			want    string
		}{{"c", false, "a b c"}, {"d", true, "d"}, {"", true, ""}, {"e", false, "e"}} {
			if err := r.nodes[1].Note(t.Context(), d, []byte(step.note), step.replace); err != nil {
				t.Fatal(err)
			}
			for _, n := range r.nodes {
				if got := string(n.store.Note(d)); got != step.want {
					t.Errorf("after %+v: %q on %s", step, got, n.id)
				}
			}
		}
		r.nodes[1].cut()
		r.nodes[2].cut()
		if err := r.nodes[0].Note(t.Context(), d, []byte("f"), false); !errors.Is(err, ErrTooFew) {
			t.Errorf("Note with two nodes away = %v; want ErrTooFew", err)
		}
	})
}

func TestSmallBlobsDoNotWaitForLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(c *Config) { c.Incoming = 2 }, nil)
		for _, n := range r.nodes {
			for i := range 2 {
				n.incoming.begin(oci.FromBytes(oci.SHA256, []byte{byte(i)}), hasty)
			}
		}
		d := r.nodes[0].upload([]byte("manifest"), oci.SHA256)
		begin := time.Now()
		if err := r.nodes[0].Put(t.Context(), d, nil); err != nil || time.Since(begin) > time.Second {
			t.Errorf("Put = %v after %v; want nil at once", err, time.Since(begin))
		}
	})
}
