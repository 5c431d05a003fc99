package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullonce/pullonce/oci"
)

// A Source knows credentials. It is asked when they are about to be sent, and again when what it said is some minutes old,
// has run out, or was refused. It may block, must honour ctx, may be used by several goroutines at once, and says neither
// secrets nor what a program of others printed in its errors.
type Source interface {
	Credentials(ctx context.Context) (Credentials, error)
}

// Credentials are what one upstream is told about who asks. The zero value is nobody.
type Credentials struct {
	Username string
	Password Secret
	// IdentityToken, when set, is what the token service gives tokens for instead of a password (a refresh token).
	IdentityToken Secret
	// Token, when set, goes before all else: a Bearer token that the registry takes as it is.
	Token Secret
	// Expires is when they end. Zero: not known.
	Expires time.Time
}

// Credentials makes them a Source that always says the same.
func (c Credentials) Credentials(context.Context) (Credentials, error) { return c, nil }

// String says whose they are, and nothing of the secrets.
func (c Credentials) String() string {
	if c.none() {
		return "anonymous"
	}
	return "credentials of " + c.Username
}

func (c Credentials) none() bool { return c.Username == "" && c.IdentityToken == "" && c.Token == "" }

// same tells whether two are worth the same.
func (c Credentials) same(d Credentials) bool {
	c.Expires, d.Expires = time.Time{}, time.Time{}
	return c == d
}

// check holds them to what can be sent. Its errors repeat nothing of the secrets.
func (c Credentials) check() error {
	switch {
	case strings.ContainsFunc(c.Username, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }):
		return errors.New("username has a colon or a control character")
	case len(c.Username)+len(c.Password) > maxTokenBytes || len(c.IdentityToken) > maxTokenBytes:
		return fmt.Errorf("credentials have more than %d bytes", maxTokenBytes)
	case c.Token != "" && !validToken(string(c.Token)):
		return errors.New("token is none")
	case c.Username == "" && c.Password != "":
		return errors.New("password has no username")
	}
	return nil
}

const (
	sourceLife    = 5 * time.Minute  // for which credentials are used without asking again
	sourcePause   = time.Second      // between two questions to one source
	sourceTimeout = 15 * time.Second // of one question, for sources without a deadline of their own
)

// A memory keeps what a source said, for a short time. A credential that the source has changed meanwhile is found out
// when the old one is refused. Errors are kept too, for the pause, so that a broken helper is not started for each request.
type memory struct {
	source Source
	flight singleflight.Group

	mu    sync.Mutex
	said  said
	asked time.Time
	until time.Time
}

type said struct {
	creds Credentials
	err   error
}

// get is what the source says or said.
func (m *memory) get(ctx context.Context) (Credentials, error) {
	if creds, ok := m.source.(Credentials); ok {
		return creds, nil
	}
	if s, ok := m.known(); ok {
		return s.creds, s.err
	}
	shared := m.flight.DoChan("", func() (any, error) {
		if s, ok := m.known(); ok {
			return s, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sourceTimeout)
		defer cancel()
		creds, err := m.source.Credentials(ctx)
		if err == nil {
			err = creds.check()
		}
		if err != nil {
			creds, err = Credentials{}, fmt.Errorf("%w: credentials: %w", oci.ErrUnavailable, err)
		}
		s := said{creds, err}
		m.put(s)
		return s, nil
	})
	select {
	case <-ctx.Done():
		return Credentials{}, fmt.Errorf("%w: credentials: %w", oci.ErrUnavailable, context.Cause(ctx))
	case result := <-shared:
		s, _ := result.Val.(said)
		return s.creds, s.err
	}
}

func (m *memory) known() (said, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said, time.Now().Before(m.until)
}

func (m *memory) put(s said) {
	life, now := sourceLife, time.Now()
	switch {
	case s.err != nil:
		life = 0
	case !s.creds.Expires.IsZero():
		life = min(life, s.creds.Expires.Sub(now)*9/10) // what is sent takes time to arrive
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said, m.asked, m.until = s, now, now.Add(max(life, sourcePause))
}

// other asks the source anew after its credentials were refused. Not ok: it has no others, or was asked just now.
func (m *memory) other(ctx context.Context, refused Credentials) (Credentials, bool) {
	if m == nil {
		return Credentials{}, false
	}
	m.mu.Lock()
	if m.said.creds.same(refused) && time.Since(m.asked) >= sourcePause {
		m.until = time.Time{}
	}
	m.mu.Unlock()
	creds, err := m.get(ctx)
	return creds, err == nil && !creds.same(refused)
}
