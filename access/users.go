package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	// loginMemory is for how long a login that was right is not checked again.
	loginMemory = time.Minute
	maxLogins   = 4096 // remembered
	maxFailures = 16384
	// maxPerAddress is how many logins of one address are checked or wait at once.
	maxPerAddress = 8
)

// errWrongLogin is all that is said of a login that failed.
var errWrongLogin = errors.New("wrong user or password")

// Users are those of a htpasswd file. A login costs what bcrypt makes it cost, whether there is the user or not; one that
// was right is remembered for a minute, and failed ones slow down those that follow.
type Users struct {
	file   string
	secret *Secret
	book   atomic.Pointer[book]
	slow   slow
	turns  chan struct{} // one for each that is checked now

	mu      sync.Mutex
	running map[Key]*login     // logins that are being checked
	waiting map[netip.Addr]int // how many of them came from where
}

// A book is what the file said, and who has logged in by it: what is remembered goes when the file changes.
type book struct {
	users  map[string][]byte
	names  []string // for the cost of users that there are not
	logins *table[Key, string]
}

// A login is one that is being checked. All that bring the same credential meanwhile wait for it.
type login struct {
	done chan struct{}
	user string
	err  error
}

// OpenUsers reads a file of user:hash lines, hashed by bcrypt.
func OpenUsers(file string) (*Users, error) {
	u := &Users{
		file: file, secret: NewSecret(), slow: newSlow(maxFailures),
		// The rest of the host's CPU is for pulls, however many try to log in.
		turns:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4)),
		running: make(map[Key]*login), waiting: make(map[netip.Addr]int),
	}
	return u, u.Reload()
}

// Reload reads the file again. With an error the users stay what they were.
func (u *Users) Reload() error {
	raw, err := readBounded(u.file)
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	users, err := parseHtpasswd(u.file, raw)
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	b := &book{users: users, logins: newTable[Key, string](maxLogins)}
	for name := range users {
		b.names = append(b.names, name)
	}
	slices.Sort(b.names)
	u.book.Store(b)
	return nil
}

// Login is the user that c's Basic credential is of. The error is that of ctx, a TooManyLoginsError, or tells that it is
// wrong.
func (u *Users) Login(ctx context.Context, c Caller) (user string, err error) {
	k := u.secret.KeyOf(c.Authorization)
	for {
		b := u.book.Load()
		if user, ok := b.logins.get(k, time.Now()); ok {
			return user, nil
		}
		name, password, ok := c.Authorization.basic()
		if !ok {
			return "", errWrongLogin
		}
		l, mine, err := u.begin(k, Network(c.Address))
		if err != nil {
			return "", err
		}
		if mine {
			l.user, l.err = u.try(ctx, b, k, name, password, Network(c.Address))
			u.end(k, l, Network(c.Address))
			return l.user, l.err
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if l.err == nil || errors.Is(l.err, errWrongLogin) {
			return l.user, l.err
		} // else who checked it has given up
	}
}

// begin is the check of k that is under way, or a new one for the caller to do.
func (u *Users) begin(k Key, from netip.Addr) (l *login, mine bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.running[k]; l != nil {
		return l, false, nil
	}
	if u.waiting[from] >= maxPerAddress {
		return nil, false, &TooManyLoginsError{RetryAfter: time.Second}
	}
	u.waiting[from]++
	l = &login{done: make(chan struct{})}
	u.running[k] = l
	return l, true, nil
}

func (u *Users) end(k Key, l *login, from netip.Addr) {
	u.mu.Lock()
	delete(u.running, k)
	if u.waiting[from]--; u.waiting[from] == 0 {
		delete(u.waiting, from)
	}
	u.mu.Unlock()
	close(l.done)
}

// try checks a login when its turn has come.
func (u *Users) try(ctx context.Context, b *book, k Key, name, password string, from netip.Addr) (string, error) {
	a := attempt{u.secret.KeyOf(Credential(name)), from}
	if err := u.slow.turn(ctx, a); err != nil {
		return "", err
	}
	select {
	case u.turns <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	right := b.check(name, password, a.user)
	<-u.turns
	if !right {
		u.slow.failedAgain(a)
		return "", errWrongLogin
	}
	u.slow.failed.forget(a)
	b.logins.put(k, name, time.Now().Add(loginMemory))
	return name, nil
}

// check tells whether password is the user's. For a user that there is not it takes as long as for some other, always the
// same one.
func (b *book) check(name, password string, of Key) bool {
	hashed, ok := b.users[name]
	if !ok && len(b.names) > 0 {
		hashed = b.users[b.names[(int(of[0])<<16|int(of[1])<<8|int(of[2]))%len(b.names)]]
	}
	return bcrypt.CompareHashAndPassword(hashed, []byte(password)) == nil && ok
}
