package copies

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

// send sends data as the client of an upload does, in parts.
func send(t *testing.T, u *blobstore.Upload, data []byte, between time.Duration) {
	t.Helper()
	for part := range slices.Chunk(data, mebi) {
		if _, err := u.Append(t.Context(), bytes.NewReader(part)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(between)
	}
}

// commit ends an upload and pushes what it is.
func (n *rigNode) commit(t *testing.T, u *blobstore.Upload, d oci.Digest) error {
	t.Helper()
	id := u.ID()
	if err := u.Commit(t.Context(), d, blobstore.Origin{Repository: u.Repository(), Hosted: true}); err != nil {
		t.Fatal(err)
	}
	n.Followed(t.Context(), id, d)
	return n.Put(t.Context(), d, []byte("note"))
}

func TestAnUploadIsSentAlongWhileItsClientSends(t *testing.T) {
	for _, algorithm := range []string{oci.SHA256, oci.SHA512} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 3, nil, nil)
			n := r.nodes[0]
			data := blobstoretest.Data(1, 5*mebi+1)
			u := n.begin(oci.SHA256)
			n.Follow(t.Context(), u.ID())
			send(t, u, data, 20*time.Second) // slower than what counts as a stall
			if got := r.nodes[1].store.Usage().UploadBytes; got != int64(len(data)) {
				t.Errorf("%d bytes there before the end; want all %d", got, len(data))
			}
			d := oci.FromBytes(algorithm, data) // not known before: by sha512 all hash it twice
			if err := n.commit(t, u, d); err != nil {
				t.Fatalf("Put = %v; want nil", err)
			}
			if got := r.holders(d); len(got) != 3 {
				t.Errorf("on %v; want all", got)
			}
			for _, n := range r.nodes[1:] {
				if s := n.Stats(); s.Received != 1 || s.ReceivedBytes != int64(len(data)) || string(n.store.Note(d)) != "note" {
					t.Errorf("%s: %+v, note %q; want it once, with its note", n.id, s, n.store.Note(d))
				}
				n.clean()
			}
			synctest.Wait()
			if n.Stats().Following != 0 {
				t.Error("something is still followed after Put")
			}
		})
	}
}

func TestWhatWasNotSentAlongIsSentAtTheEnd(t *testing.T) {
	data := blobstoretest.Data(1, 3*mebi)
	d := oci.FromBytes(oci.SHA256, data)
	for name, spoil := range map[string]func(t *testing.T, r *rig, u *blobstore.Upload){
		"a client that pauses for long": func(*testing.T, *rig, *blobstore.Upload) { time.Sleep(2 * time.Minute) },
		"a target that was away":        func(_ *testing.T, r *rig, _ *blobstore.Upload) { back(r.nodes[1]) },
		"all targets were away": func(_ *testing.T, r *rig, _ *blobstore.Upload) {
			back(r.nodes[1])
			back(r.nodes[2])
		},
		"a node that has come": func(_ *testing.T, r *rig, _ *blobstore.Upload) { r.setDown("n3", false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, nil, nil)
				if name == "a node that has come" {
					r.setDown("n3", true)
				}
				n := r.nodes[0]
				u := n.begin(oci.SHA256)
				n.Follow(t.Context(), u.ID())
				send(t, u, data[:mebi], time.Second)
				spoil(t, r, u)
				send(t, u, data[mebi:], time.Second)
				if err := n.commit(t, u, d); err != nil || len(r.holders(d)) != 3 {
					t.Errorf("Put = %v on %v; want nil on all", err, r.holders(d))
				}
				for _, n := range r.nodes {
					n.clean()
				}
			})
		})
	}
}

// back has a node lose all connections, as a restart does.
func back(n *rigNode) {
	n.cut()
	n.failAt(-1, nil)
}

func TestACancelledUploadLeavesNothingElsewhere(t *testing.T) {
	for name, end := range map[string]func(n *rigNode, u *blobstore.Upload) error{
		"cancel": func(_ *rigNode, u *blobstore.Upload) error { return u.Cancel() },
		"forget": func(n *rigNode, u *blobstore.Upload) error { n.Forget(u.ID()); return u.Close() },
		"mismatch": func(n *rigNode, u *blobstore.Upload) error {
			err := u.Commit(n.rig.t.Context(), oci.FromBytes(oci.SHA256, nil), blobstore.Origin{Hosted: true})
			if _, ok := errors.AsType[*oci.MismatchError](err); !ok {
				return err
			}
			return u.Cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, nil, nil)
				n := r.nodes[0]
				u := n.begin(oci.SHA256)
				n.Follow(t.Context(), u.ID())
				n.Follow(t.Context(), u.ID()) // twice is once
				send(t, u, make([]byte, 2*mebi), time.Second)
				if err := end(n, u); err != nil {
					t.Fatal(err)
				}
				for _, n := range r.nodes[1:] {
					n.clean()
					if n.store.Usage().Blobs != 0 {
						t.Errorf("%s has a blob", n.id)
					}
				}
			})
		})
	}
}

func TestOnlyWhereAllMembersAreAPlaceIsAnUploadFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, nodes := range []int{1, 4} {
			r := newRig(t, nodes, nil, nil)
			n := r.nodes[0]
			u := n.begin(oci.SHA256)
			n.Follow(t.Context(), u.ID())
			if n.Stats().Following != 0 {
				t.Errorf("an upload is followed in a farm of %d", nodes)
			}
			_ = u.Cancel()
		}
	})
}

func TestABlobThatNobodyAsksAboutIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil, nil)
		n := r.nodes[0]
		data := blobstoretest.Data(1, mebi)
		d := oci.FromBytes(oci.SHA256, data)
		for range 3 { // the same blob, again and again
			u := n.begin(oci.SHA256)
			n.Follow(t.Context(), u.ID())
			send(t, u, data, 0)
			id := u.ID()
			if err := u.Commit(t.Context(), d, blobstore.Origin{Hosted: true}); err != nil {
				t.Fatal(err)
			}
			n.Followed(t.Context(), id, d)
		}
		time.Sleep(2 * keepFollowed)
		if left := n.Stats().Following; left != 0 {
			t.Errorf("%d uploads are still followed; want none", left)
		}
	})
}
