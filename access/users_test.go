package access_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/access"
)

var somewhere = netip.MustParseAddr("10.0.0.7")

func basic(user, password string) access.Credential {
	return access.Credential("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func from(user, password string) access.Caller {
	return access.Caller{Authorization: basic(user, password), Address: somewhere}
}

// line is one of a htpasswd file, as cheap as bcrypt can be.
func line(t testing.TB, user, password string) string {
	t.Helper()
	hashed, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + string(hashed) + "\n"
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openUsers(t testing.TB, lines ...string) *access.Users {
	t.Helper()
	u, err := access.OpenUsers(write(t, "users", strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUsersLogInByTheirPasswords(t *testing.T) {
	php := strings.Replace(line(t, "carol", "c"), "$2a$", "$2y$", 1)
	u := openUsers(t, "# users\n\n", line(t, "alice", "a:b"), line(t, "bob", "b"), php)
	for _, c := range []access.Caller{from("alice", "a:b"), from("bob", "b"), from("carol", "c")} {
		for range 2 { // checked, then remembered
			if _, err := u.Login(t.Context(), c); err != nil {
				t.Errorf("Login of a user by the right password: %v", err)
			}
		}
	}
	for _, c := range []access.Caller{from("alice", "a"), from("bob", ""), from("dave", "b"), from("", ""), {Authorization: "Bearer x"}, {}} {
		if user, err := u.Login(t.Context(), c); err == nil || user != "" {
			t.Errorf("Login by a wrong password = %q, %v; want an error", user, err)
		}
	}
}

func TestAFileOfUsersThatCannotBeUsedIsToldByLine(t *testing.T) {
	path := write(t, "users", line(t, "alice", "a")+
		"bob:$apr1$x$y\ncarol:{SHA}secret\ndave\n:"+line(t, "", "x")[1:]+line(t, "alice", "b")+"erin:$2y$20$"+strings.Repeat("a", 53)+"\n"+line(t, "anonymous", "a")+"frank:$2b$05$short\n")
	_, err := access.OpenUsers(path)
	if err == nil {
		t.Fatal("a file with bad lines is taken")
	}
	for _, want := range []string{
		`users:2: user "bob": the password is not hashed by bcrypt`, `users:3: user "carol": the password is not`, "users:4: ", "users:5: want user:hash",
		`users:6: user "alice" comes twice`, `users:7: user "erin": bcrypt cost 20`, `users:8: user "anonymous"`, `users:9: user "frank"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "apr1") {
		t.Errorf("the error tells hashes: %v", err)
	}
}

func TestReloadHoldsAtOnceAndKeepsTheOldWhenTheNewIsBad(t *testing.T) {
	path := write(t, "users", line(t, "alice", "old"))
	u, err := access.OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	login := func(password string) error {
		_, err := u.Login(t.Context(), access.Caller{Authorization: basic("alice", password)})
		return err
	}
	if err := login("old"); err != nil {
		t.Fatal(err)
	}
	rewrite := func(text string) error {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return u.Reload()
	}
	if err := rewrite("nonsense"); err == nil {
		t.Error("Reload takes nonsense")
	}
	if err := login("old"); err != nil {
		t.Errorf("after a bad file: %v; want the users as they were", err)
	}
	if err := rewrite(line(t, "alice", "new")); err != nil {
		t.Fatal(err)
	}
	if err := login("old"); err == nil {
		t.Error("the old password is remembered after the file has changed")
	}
	if err := login("new"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if err := rewrite(""); err != nil {
		t.Fatal(err)
	}
	if err := login("new"); err == nil {
		t.Error("a user that was removed is still one")
	}
}

// How long a login takes to be refused grows with each, but for others it does not.
func TestFailedLoginsSlowDownThoseThatFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUsers(t, line(t, "alice", "a"), line(t, "bob", "b"))
		took := func(c access.Caller) time.Duration {
			begun := time.Now()
			_, _ = u.Login(t.Context(), c)
			return time.Since(begun)
		}
		for i, want := range []string{"0s", "250ms", "500ms", "1s", "2s", "4s", "4s", "4s"} {
			if got := took(from("alice", fmt.Sprint(i))); got.String() != want {
				t.Errorf("failed login %d took %v; want %s", i+1, got, want)
			}
		}
		elsewhere := from("alice", "wrong there, too")
		elsewhere.Address = netip.MustParseAddr("10.0.0.8")
		if got := took(elsewhere); got != 0 {
			t.Errorf("the same user from elsewhere took %v; want 0", got)
		}
		if got := took(from("bob", "b")); got != 0 {
			t.Errorf("another user took %v; want 0", got)
		}
		if got := took(from("alice", "a")); got != 4*time.Second {
			t.Errorf("the right password after failed ones took %v; want 4s", got)
		}
		if got := took(from("alice", "a")); got != 0 {
			t.Errorf("a remembered login took %v; want 0", got)
		}
		if got := took(from("alice", "x")) + took(from("alice", "y")); got != 250*time.Millisecond {
			t.Errorf("after a login that was right, two failed ones took %v; want 250ms", got)
		}
		time.Sleep(15 * time.Minute)
		if got := took(from("alice", "z")); got != 0 {
			t.Errorf("15 minutes later a failed login took %v; want 0", got)
		}
	})
}

func TestAUserThatThereIsNotIsSlowedAsOneThatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUsers(t, line(t, "alice", "a"))
		took := map[string][]time.Duration{}
		for _, user := range []string{"alice", "nobody"} {
			for i := range 6 {
				begun := time.Now()
				_, err := u.Login(t.Context(), from(user, fmt.Sprint("wrong", i)))
				took[user] = append(took[user], time.Since(begun))
				if err == nil || err.Error() != "wrong user or password" {
					t.Errorf("Login = %v; want no difference", err)
				}
			}
		}
		if !slices.Equal(took["alice"], took["nobody"]) || took["nobody"][5] == 0 {
			t.Errorf("failed logins took %v for a user, %v for nobody", took["alice"], took["nobody"])
		}
	})
}

// The cost of bcrypt is paid for whom there is not, too: at a cost that is far above what all else takes.
func TestAUserThatThereIsNotCostsAsMuch(t *testing.T) {
	hashed, err := bcrypt.GenerateFromPassword([]byte("a"), 7)
	if err != nil {
		t.Fatal(err)
	}
	u := openUsers(t, "alice:"+string(hashed)+"\n")
	fastest := func(user string) time.Duration {
		best := time.Hour
		for i := range 4 {
			c := from(user, fmt.Sprint("wrong", i))
			c.Address = netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}) // failed ones of one address wait
			begun := time.Now()
			if _, err := u.Login(t.Context(), c); err == nil {
				t.Fatal("logged in")
			}
			best = min(best, time.Since(begun))
		}
		return best
	}
	if known, unknown := fastest("alice"), fastest("nobody"); unknown < known/10 || known < unknown/10 {
		t.Errorf("a wrong password takes %v, a user that there is not %v; want about the same", known, unknown)
	}
}

func TestALoginIsRememberedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "users", line(t, "alice", "a"))
		u, err := access.OpenUsers(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Login(t.Context(), from("alice", "a")); err != nil {
			t.Fatal(err)
		}
		for i := range 5 { // so that a login that is checked waits
			go func() { _, _ = u.Login(t.Context(), from("alice", fmt.Sprint("wrong", i))) }()
		}
		synctest.Wait()
		for _, at := range []struct {
			after time.Duration
			slow  bool
		}{{0, false}, {59 * time.Second, false}} {
			time.Sleep(at.after)
			begun := time.Now()
			if _, err := u.Login(t.Context(), from("alice", "a")); err != nil || time.Since(begun) != 0 {
				t.Errorf("after %v: Login = %v in %v; want it remembered", at.after, err, time.Since(begun))
			}
		}
		_, _ = u.Login(t.Context(), from("alice", "wrong again"))
		time.Sleep(time.Second)
		begun := time.Now()
		if _, err := u.Login(t.Context(), from("alice", "a")); err != nil || time.Since(begun) == 0 {
			t.Errorf("after a minute: Login = %v in %v; want it checked, behind the failed ones", err, time.Since(begun))
		}
	})
}

// Guesses at once are held as those one after the other, and most are turned away.
func TestGuessesAtOnceAreNoWayAroundTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUsers(t, line(t, "alice", "a"))
		for i := range 6 {
			_, _ = u.Login(t.Context(), from("alice", fmt.Sprint("wrong", i)))
		}
		begun := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		checked, away := 0, 0
		for i := range 100 {
			wg.Go(func() {
				_, err := u.Login(t.Context(), from("alice", fmt.Sprint("more", i)))
				mu.Lock()
				defer mu.Unlock()
				if _, many := errors.AsType[*access.TooManyLoginsError](err); many {
					away++
				} else {
					checked++
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); checked > 2 || checked+away != 100 || took > 10*time.Second {
			t.Errorf("%d of 100 guesses at once were checked, %d turned away, in %v; want at most 2 within 10s", checked, away, took)
		}
	})
}

func TestOneCredentialManyTimesAtOnceIsOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUsers(t, line(t, "alice", "a"))
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if user, err := u.Login(t.Context(), from("alice", "a")); err != nil || user != "alice" {
					t.Errorf("Login = %q, %v; want alice", user, err)
				}
			})
		}
		wg.Wait()
	})
}

// Who gives up while its login waits its turn does not take others along that bring the same.
func TestALoginThatIsGivenUpIsTakenOverByWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := openUsers(t, line(t, "alice", "a"))
		for i := range 4 {
			_, _ = u.Login(t.Context(), from("alice", fmt.Sprint("wrong", i)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := u.Login(ctx, from("alice", "a")); first <- err }()
		synctest.Wait()
		go func() { _, err := u.Login(t.Context(), from("alice", "a")); second <- err }()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v; want that it has", err)
		}
		if err := <-second; err != nil {
			t.Errorf("who waited got %v; want the login", err)
		}
	})
}

func BenchmarkRememberedLogin(b *testing.B) {
	u := openUsers(b, line(b, "alice", "a"))
	c := from("alice", "a")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Login(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
