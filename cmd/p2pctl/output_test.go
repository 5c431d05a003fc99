package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/adminapi"
)

func TestWarningsAreRedOnATerminalOnly(t *testing.T) {
	s := adminapi.FarmStatus{Farm: "f", Warnings: []adminapi.Warning{{Kind: adminapi.WarnTrust, Text: "none"}}}
	if got := statusText(s, true); !strings.HasSuffix(got, "\n\x1b[31mwarning: none\x1b[0m\n") {
		t.Errorf("statusText(colour) = %q; want a red warning at its end", got)
	}
	if got := statusText(s, false); strings.Contains(got, "\x1b") || !strings.HasSuffix(got, "\nwarning: none\n") {
		t.Errorf("statusText(no colour) = %q; want a plain warning at its end", got)
	}
}

func TestColoursAreForTerminalsOfThoseWhoWantThem(t *testing.T) {
	device, err := os.OpenFile("/dev/null", os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Skip("no character device to try:", err)
	}
	defer func() { _ = device.Close() }()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if !colours(device) || colours(file) || colours(&bytes.Buffer{}) {
		t.Errorf("colours(device, file, buffer) = %v, %v, %v; want true, false, false",
			colours(device), colours(file), colours(&bytes.Buffer{}))
	}
	t.Setenv("TERM", "dumb")
	if colours(device) {
		t.Error("colours() of a dumb terminal = true; want false")
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if colours(device) {
		t.Error("colours() with NO_COLOR = true; want false")
	}
}

func TestTheFirstSocketThatAnswersIsTaken(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := firstSocket([]string{"a", "b"}); got != "" {
		t.Errorf("firstSocket() = %q; want none", got)
	}
	if err := os.WriteFile("a", nil, 0o600); err != nil { // no socket
		t.Fatal(err)
	}
	for _, path := range []string{"c", "b"} {
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		if got := firstSocket([]string{"a", "b", "c"}); got != path {
			t.Errorf("firstSocket() = %q; want %q", got, path)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	var stderr bytes.Buffer
	for _, output := range []string{"table", "json"} {
		if code := run(context.Background(), []string{"version", "--client", "-o", output}, brokenPipe{}, &stderr); code != exitFailed {
			t.Errorf("version -o %s to a broken pipe: exit code %d; want %d", output, code, exitFailed)
		}
	}
	if !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("stderr is %q; want the reason", stderr.String())
	}
}

func TestATableHoldsWhatItIsGiven(t *testing.T) {
	table := newTable("NAME", ">BYTES", "NOTE")
	table.add("käse", "1", "")
	table.add("x\x1b[2J", "12 GiB", "y")
	want := "NAME    BYTES  NOTE\nkäse        1  -\nx?[2J  12 GiB  y\n"
	if got := table.String(); got != want {
		t.Errorf("table is\n%s\nwant\n%s", got, want)
	}
}

func TestSizesAreForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 20: "1.0 MiB", 123 << 30: "123 GiB", -2048: "-2.0 KiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q; want %q", n, got, want)
		}
	}
}

func TestASilentMemberIsNamedWithItsAddress(t *testing.T) {
	for state, want := range map[string]string{"active": ", silent", adminapi.StateGone: "", adminapi.StateLeft: ""} {
		if got := silent(adminapi.MemberStatus{Member: adminapi.Member{State: state}}); got != want {
			t.Errorf("silent(%s) = %q; want %q", state, got, want)
		}
	}
	w := adminapi.Warning{Kind: adminapi.WarnUnreachable, Member: "vm-1", Text: "does not answer: 10.0.0.3:7947: connection refused"}
	if got, want := warningLine(w), "warning: vm-1 does not answer: 10.0.0.3:7947: connection refused"; got != want {
		t.Errorf("warningLine() = %q; want %q", got, want)
	}
}

func TestASocketThatANodeLeftBehindIsPassedBy(t *testing.T) {
	dir := t.TempDir()
	stale, live := filepath.Join(dir, "stale.sock"), filepath.Join(dir, "live.sock")
	for path, left := range map[string]bool{stale: true, live: false} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if left { // as after kill -9
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	if got := firstSocket([]string{filepath.Join(dir, "absent.sock"), stale, live}); got != live {
		t.Errorf("firstSocket() = %q; want the one at which a node listens, %q", got, live)
	}
	if got := firstSocket([]string{stale}); got != "" {
		t.Errorf("firstSocket() = %q; want none", got)
	}
}
