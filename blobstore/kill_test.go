package blobstore_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/blobstore/blobstoretest"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/piece"
)

// childEnv makes the test binary play another part: "writer DIR SEED", "uploader DIR SEED", or "server DIR" under a syscall trace.
const childEnv = "BLOBSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	part := strings.Fields(os.Getenv(childEnv))
	switch {
	case len(part) == 3 && part[0] == "writer":
		writeUntilKilled(part[1], part[2])
	case len(part) == 3 && part[0] == "uploader":
		uploadUntilKilled(part[1], part[2])
	case len(part) == 2 && part[0] == "server":
		os.Exit(serveOnce(part[1]))
	}
	os.Exit(m.Run())
}

// writesPerRound is how many writes one child makes when nobody kills it.
const writesPerRound = 200

func killData(seed uint64) []byte {
	return blobstoretest.Data(seed, int(seed*7919%uint64(5*blobstoretest.PieceSize)))
}

// writeUntilKilled makes random writes and says after each what it was promised: "kept SEED" or "deleted SEED".
func writeUntilKilled(dir, seedText string) {
	var seed uint64
	_, _ = fmt.Sscan(seedText, &seed)
	cfg := blobstore.Default(dir)
	cfg.SyncInterval = 5 * time.Millisecond
	s, err := blobstore.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("broken", err)
		os.Exit(1)
	}
	go func() { _ = s.Run(context.Background()) }()
	r := rand.New(rand.NewPCG(seed, 1))
	for k := range uint64(writesPerRound) {
		n := seed*writesPerRound + k
		data := killData(n)
		d := blobstoretest.Digest(data)
		if r.IntN(3) == 0 {
			err = s.Put(context.Background(), d, data, blobstore.Origin{Repository: nginx})
		} else {
			err = arrive(s, data, r)
		}
		if err != nil {
			fmt.Println("broken", err)
			os.Exit(1)
		}
		fmt.Println("kept", n)
		if r.IntN(6) == 0 {
			fmt.Println("deleting", n)
			if err := s.Delete(d); err != nil {
				fmt.Println("broken", err)
				os.Exit(1)
			}
			fmt.Println("deleted", n)
		}
	}
	os.Exit(0)
}

// arrive commits a blob by way of a partial one, its pieces in any order, some given up half-way before.
func arrive(s *blobstore.Store, data []byte, r *rand.Rand) error {
	l := piece.Issue(blobstoretest.Digest(data), int64(len(data)), blobstoretest.PieceSize, "child")
	h := piece.NewHasher(l)
	for i := range l.Count() {
		if err := h.Piece(blobstoretest.Piece(l, data, i)); err != nil {
			return err
		}
	}
	for pass := range 2 {
		p, err := s.OpenPartial(l)
		if err != nil {
			return err
		}
		defer p.Close()
		for _, i := range r.Perm(l.Count())[:l.Count()*(pass+1)/2] {
			if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
				return err
			}
		}
		for i := range l.Count() * pass {
			if err := p.WritePiece(i, blobstoretest.Piece(l, data, i)); err != nil {
				return err
			}
		}
		if pass == 1 {
			return p.Commit(blobstore.Origin{Repository: nginx})
		}
	}
	return nil
}

func TestAKillAtAnyMomentLosesNoCommittedBlobAndLeavesNoWrongOne(t *testing.T) {
	budget, least := 15*time.Second, 3
	if testing.Short() {
		budget = 2 * time.Second
	}
	dir := t.TempDir()
	kept := make(map[oci.Digest][]byte)
	unsure := make(map[oci.Digest]bool)
	begin, rounds, writes := time.Now(), 0, 0
	for ; rounds < least || time.Since(begin) < budget; rounds++ {
		writes += killOneRound(t, dir, rounds, kept, unsure)
		verifyAfterKill(t, dir, kept, unsure)
		if t.Failed() {
			t.Fatalf("round %d", rounds)
		}
	}
	t.Logf("%d kills, %d writes, %d blobs kept", rounds, writes, len(kept))
}

// killOneRound lets a child write and kills it after a random time; it returns the number of writes promised.
func killOneRound(t *testing.T, dir string, round int, kept map[oci.Digest][]byte, unsure map[oci.Digest]bool) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=writer %s %d", childEnv, dir, round))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(time.Duration(rand.Int64N(int64(700*time.Millisecond))), func() { _ = child.Process.Kill() })
	defer killer.Stop()
	writes := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		var n uint64
		_, _ = fmt.Sscan(rest, &n)
		data := killData(n)
		d := blobstoretest.Digest(data)
		switch what {
		case "kept":
			kept[d] = data
			writes++
		case "deleting":
			delete(kept, d)
			unsure[d] = true
		case "deleted":
		default:
			t.Errorf("child: %s", lines.Text())
		}
	}
	_ = child.Wait()
	return writes
}

func verifyAfterKill(t *testing.T, dir string, kept map[oci.Digest][]byte, unsure map[oci.Digest]bool) {
	t.Helper()
	s, err := blobstore.Open(blobstore.Default(dir), quiet(t))
	if err != nil {
		t.Fatalf("Open after a kill = %v; want nil", err)
	}
	defer func() { _ = s.Close() }()
	found := make(map[oci.Digest]bool)
	s.Each(func(d oci.Digest, size int64) bool {
		found[d] = true
		got, err := blobstoretest.Read(t, s, d)
		if err != nil || blobstoretest.Digest(got) != d {
			t.Errorf("blob %s: %d bytes, %v; want no wrong blob", d, len(got), err)
		}
		return true
	})
	for d, data := range kept {
		if !found[d] {
			t.Errorf("blob %s of %d bytes was promised and is gone", d, len(data))
		} else if !s.Linked(nginx, d) {
			t.Errorf("blob %s has lost its link", d)
		}
	}
	if u := s.Usage(); u.Alarm != "" {
		t.Errorf("Usage().Alarm = %q; want none", u.Alarm)
	}
	// What was not promised may be there or not. It stays out of the sum of later rounds.
	for d := range found {
		if kept[d] == nil && !unsure[d] {
			var got []byte
			if got, err = blobstoretest.Read(t, s, d); err == nil {
				kept[d] = bytes.Clone(got)
			}
		}
	}
	if len(kept) > 400 { // keep the rounds short
		for d := range kept {
			delete(kept, d)
			unsure[d] = true
			if err := s.Delete(d); err != nil {
				t.Errorf("Delete: %v", err)
			}
		}
	}
}
