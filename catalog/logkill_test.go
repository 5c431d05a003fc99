package catalog

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// killEnv names the store that a process of the test writes to until it is killed.
const killEnv = "CATALOG_TEST_LOG"

// TestWriteUntilKilled is the process that TestAKilledProcessHasLostNoAcknowledgedEntry starts.
func TestWriteUntilKilled(t *testing.T) {
	path := os.Getenv(killEnv)
	if path == "" {
		t.Skip("only for the process that is killed")
	}
	s := smallLog(t, path)
	next := uint64(1)
	if last, _ := s.LastIndex(); last > 0 {
		next = last + 1
	}
	for size := uint64(1); ; size = size%7 + 1 {
		put(t, s, next, next+size-1)
		next += size
		fmt.Println("acknowledged", next-1)
		if next%50 < 7 && next > 100 {
			first, _ := s.FirstIndex()
			drop(t, s, first, next-60)
		}
	}
}

func TestAKilledProcessHasLostNoAcknowledgedEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	for round := range 8 {
		acknowledged := writeAndKill(t, path, 15+10*round)
		s := smallLog(t, path)
		first, _ := s.FirstIndex()
		last, _ := s.LastIndex()
		if last < acknowledged {
			t.Fatalf("round %d: the log ends at %d; %d was acknowledged", round, last, acknowledged)
		}
		has(t, s, first, last)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeAndKill runs a process that writes, kills it after some batches, and returns what it has acknowledged.
func writeAndKill(t *testing.T, path string, batches int) uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteUntilKilled$", "-test.v")
	cmd.Env = append(os.Environ(), killEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var acknowledged uint64
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var text string
		if n, _ := fmt.Sscanf(lines.Text(), "acknowledged %s", &text); n == 1 {
			if acknowledged, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
			batches--
		}
		if batches <= 0 && !killed { // what it wrote until it died is read to the end
			killed = true
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if !killed {
		t.Fatalf("the process ended by itself: %v", cmd.ProcessState)
	}
	return acknowledged
}
