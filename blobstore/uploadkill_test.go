package blobstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
)

func uploadData(seed uint64) []byte {
	return blobstoretest.Data(seed, int(seed*104_729%(6<<20)))
}

// uploadUntilKilled makes uploads and says after each step what it was promised: "begun SEED ID", "at SEED OFFSET",
// "whole SEED". Every third blob is sent by a peer, with a note that changes: "whole SEED", "noted SEED".
func uploadUntilKilled(dir, seedText string) {
	var seed uint64
	_, _ = fmt.Sscan(seedText, &seed)
	cfg := blobstore.Default(dir)
	cfg.SyncInterval = 3 * time.Millisecond
	s, err := blobstore.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("broken", err)
		os.Exit(1)
	}
	go func() { _ = s.Run(context.Background()) }()
	r := rand.New(rand.NewPCG(seed, 2))
	for k := range uint64(100) {
		if err := uploadOnce(s, seed*100+k, r); err != nil {
			fmt.Println("broken", err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

func uploadOnce(s *blobstore.Store, seed uint64, r *rand.Rand) error {
	data := uploadData(seed)
	if seed%3 == 2 {
		return receiveOnce(s, seed, data)
	}
	u, err := s.StartUpload(team, oci.SHA256)
	if err != nil {
		return err
	}
	fmt.Println("begun", seed, u.ID())
	for u.Offset() < int64(len(data)) {
		rest := data[u.Offset():]
		if _, err := u.Append(context.Background(), bytes.NewReader(rest[:1+r.IntN(len(rest))])); err != nil {
			return err
		}
		fmt.Println("at", seed, u.Offset())
	}
	if err := u.Commit(context.Background(), blobstoretest.Digest(data), pushed); err != nil {
		return err
	}
	fmt.Println("whole", seed)
	return nil
}

func receiveOnce(s *blobstore.Store, seed uint64, data []byte) error {
	u, err := s.StartIncoming(oci.SHA256, int64(len(data)))
	if err != nil {
		return err
	}
	var freed atomic.Int64
	if err := u.AppendPortions(context.Background(), portions(data, mebi, &freed)); err != nil {
		return err
	}
	o := pushed
	o.Note = []byte("first")
	if err := u.Commit(context.Background(), blobstoretest.Digest(data), o); err != nil {
		return err
	}
	fmt.Println("whole", seed)
	if err := s.SetNote(blobstoretest.Digest(data), []byte("second")); err != nil {
		return err
	}
	fmt.Println("noted", seed)
	return nil
}

// promises are what an uploading child said before it was killed.
type promises struct {
	ids     map[uint64]string
	offsets map[uint64]int64
	whole   map[uint64]bool
	noted   map[uint64]bool
}

func TestAKillAtAnyMomentLeavesUploadsThatGoOn(t *testing.T) {
	budget, least := 10*time.Second, 5
	if testing.Short() {
		budget = 2 * time.Second
	}
	begin, rounds, resumed := time.Now(), 0, 0
	for ; rounds < least || time.Since(begin) < budget; rounds++ {
		dir := t.TempDir()
		said := killUploads(t, dir, rounds)
		resumed += resumeUploads(t, dir, said)
		if t.Failed() {
			t.Fatalf("round %d", rounds)
		}
	}
	t.Logf("%d kills, %d uploads gone on with", rounds, resumed)
}

func killUploads(t *testing.T, dir string, round int) promises {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=uploader %s %d", childEnv, dir, round))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(time.Duration(rand.Int64N(int64(500*time.Millisecond))), func() { _ = child.Process.Kill() })
	defer killer.Stop()
	said := promises{map[uint64]string{}, map[uint64]int64{}, map[uint64]bool{}, map[uint64]bool{}}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var what, rest string
		var seed uint64
		_, _ = fmt.Sscan(lines.Text(), &what, &seed, &rest)
		switch what {
		case "begun":
			said.ids[seed] = rest
		case "at":
			var offset int64
			_, _ = fmt.Sscan(rest, &offset)
			said.offsets[seed] = offset
		case "whole":
			said.whole[seed] = true
		case "noted":
			said.noted[seed] = true
		default:
			t.Errorf("child: %s", lines.Text())
		}
	}
	_ = child.Wait()
	return said
}

// resumeUploads goes on with every upload from where it stands; only right bytes before that can end in the digest.
func resumeUploads(t *testing.T, dir string, said promises) (resumed int) {
	t.Helper()
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatalf("Open after a kill = %v; want nil", err)
	}
	defer func() { _ = s.Close() }()
	for seed, id := range said.ids {
		data := uploadData(seed)
		d := blobstoretest.Digest(data)
		u, err := s.Upload(id)
		switch {
		case errors.Is(err, oci.ErrNotFound):
			if said.offsets[seed] < int64(len(data)) {
				t.Errorf("upload %d of %d bytes at %d is gone", seed, len(data), said.offsets[seed])
			}
		case err != nil:
			t.Errorf("Upload = %v; want nil", err)
		default:
			if u.Offset() < said.offsets[seed] || said.whole[seed] {
				t.Errorf("upload %d stands at %d, whole: %v; was promised %d", seed, u.Offset(), said.whole[seed], said.offsets[seed])
			}
			appendAll(t, u, data[u.Offset():])
			if err := u.Commit(t.Context(), d, pushed); err != nil {
				t.Errorf("Commit after a kill = %v; want nil", err)
			}
			resumed++
		}
		wantBlob(t, s, d, data)
	}
	for seed := range said.whole {
		data := uploadData(seed)
		d := blobstoretest.Digest(data)
		wantBlob(t, s, d, data)
		if note := string(s.Note(d)); seed%3 == 2 && note != "second" && (note != "first" || said.noted[seed]) {
			t.Errorf("note %q; its change was promised: %v", note, said.noted[seed])
		}
	}
	wantNoUploads(t, s, dir)
	return resumed
}
