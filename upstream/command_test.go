package upstream

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/oci"
)

func TestAProgramThatHangsEndsWithAllThatItStarted(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	began := time.Now()
	_, err := run(t.Context(), 300*time.Millisecond, []string{"sh", "-c", `sleep 60 & echo $! $$ >"$0"; wait`, pids}, "")
	if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") || time.Since(began) > 10*time.Second {
		t.Errorf("run = %v after %v; want it ended after 300 ms", err, time.Since(began))
	}
	raw, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		gone(t, pid)
	}
}

func TestWhatAProgramLeavesBehindIsEnded(t *testing.T) {
	out, err := run(t.Context(), 10*time.Second, []string{"sh", "-c", `sleep 60 & echo $!`}, "")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

// gone waits until a process that was killed has ended; what is not reaped yet counts as ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || syscall.Kill(pid, 0) != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on", pid)
		}
	}
}

func TestWhatIsKeptOfClientsIsBounded(t *testing.T) {
	cfg := Default()
	c, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 2000 {
		view := c.As(ClientIdentity(Secret(fmt.Sprintf("Bearer client-%d", i))))
		if view.own != c.As(ClientIdentity(Secret(fmt.Sprintf("Bearer client-%d", i)))).own {
			t.Fatal("a client that has just been here is not known")
		}
		for j := range 100 {
			view.own.tokens.put(tokenKey{scope: strconv.Itoa(j)}, "t", time.Hour)
			view.own.redirects.put(redirectKey{strconv.Itoa(j), oci.Digest{}}, nil, time.Hour)
		}
		if n := len(view.own.tokens.entries); n > guestTokens || len(view.own.redirects.entries) > guestRedirect {
			t.Fatalf("%d tokens and %d redirects are kept of one client", n, len(view.own.redirects.entries))
		}
	}
	if n := len(c.guests.table.entries); n > maxGuests {
		t.Errorf("%d clients are kept; want at most %d", n, maxGuests)
	}
	c.Forget()
	if n := len(c.guests.table.entries); n != 0 {
		t.Errorf("%d clients are kept after Forget; want none", n)
	}
}

func TestAProgramHasNothingOfTheNodesOwnEnvironment(t *testing.T) {
	t.Setenv("P2PD_TRUST_JOIN_TOKEN", "secret")
	t.Setenv("P2PD_", "secret")
	t.Setenv("OTHER_P2PD_SETTING", "kept")
	out, err := run(t.Context(), 10*time.Second, []string{"env"}, "")
	if err != nil {
		t.Fatal(err)
	}
	text := "\n" + string(out)
	if strings.Contains(text, "\nP2PD_") {
		t.Error("a program has variables that begin with P2PD_; want none")
	}
	if !strings.Contains(text, "\nOTHER_P2PD_SETTING=kept\n") || !strings.Contains(text, "\nPATH=") {
		t.Error("a program lacks variables that do not begin with P2PD_; want all of them")
	}
}
