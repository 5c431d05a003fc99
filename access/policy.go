package access

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// A Policy decides who may do what with the repositories that the farm itself hosts. Where there are neither users nor
// tokens, who asks over loopback may do all, and others may read. Where there are, they hold on every address: rights say
// what users may do and what everybody may; a token allows what it says, besides what everybody may.
type Policy struct {
	parts Parts
	log   *slog.Logger
	noted *rate.Limiter // of failed logins
}

// Parts are what a Policy is put together from.
type Parts struct {
	// Prefix is the first element that hosted repositories have, such as "farm.internal": the farm's own name.
	Prefix string
	Users  *Users  // nil: none
	Tokens *Tokens // nil: none
	Rights Rights
}

// NewPolicy puts a Policy together.
func NewPolicy(parts Parts, log *slog.Logger) *Policy {
	return &Policy{parts: parts, log: log, noted: rate.NewLimiter(rate.Every(time.Second), 10)}
}

// Reload reads the files of users and keys again. What has an error stays what it was.
func (p *Policy) Reload() error {
	var errs []error
	if p.parts.Users != nil {
		errs = append(errs, p.parts.Users.Reload())
	}
	if p.parts.Tokens != nil {
		errs = append(errs, p.parts.Tokens.Reload())
	}
	return errors.Join(errs...)
}

// open tells whether there is nobody to log in as.
func (p *Policy) open() bool { return p.parts.Users == nil && p.parts.Tokens == nil }

// A principal is who a caller has turned out to be. The zero principal is anybody.
type principal struct {
	user  string
	token *token
}

// whoIs finds out who c is. Wrong credentials are an error, also where none are needed.
func (p *Policy) whoIs(ctx context.Context, c Caller) (principal, error) {
	if c.Authorization == "" {
		return principal{}, nil
	}
	var who principal
	err := errWrongLogin
	if _, bearer := c.Authorization.bearer(); bearer {
		if err = errWrongToken; p.parts.Tokens != nil {
			who.token, err = p.parts.Tokens.check(c.Authorization, p.parts.Prefix)
		}
	} else if p.parts.Users != nil {
		who.user, err = p.parts.Users.Login(ctx, c)
	}
	if errors.Is(err, errWrongLogin) || errors.Is(err, errWrongToken) {
		p.note(ctx, c, err)
	}
	return who, err
}

// note logs a failed login, without the name that was given: some have typed their password there.
func (p *Policy) note(ctx context.Context, c Caller, err error) {
	if p.noted.Allow() {
		p.log.LogAttrs(ctx, slog.LevelWarn, "login failed", slog.String("client", c.Address.String()), slog.Any("error", err))
	}
}

// may is what who may do with the repository of that path.
func (p *Policy) may(who principal, path string) Action {
	allowed := p.parts.Rights.of(who.user, path)
	if who.token != nil {
		allowed |= who.token.of(path)
	}
	return allowed
}

// Login is nil for a caller whose credentials are right, and where none are needed at all. Else it is an
// UnauthorizedError, a TooManyLoginsError or that of ctx.
func (p *Policy) Login(ctx context.Context, c Caller) error {
	if p.open() {
		return nil
	}
	if c.Authorization == "" {
		return p.unauthorized(c, "", 0, "")
	}
	_, err := p.whoIs(ctx, c)
	return p.refused(c, "", 0, err)
}

// Allow is nil when c may do that with the hosted repository of that path. Else it is an UnauthorizedError, a DeniedError,
// a TooManyLoginsError or that of ctx; whether there is such a repository makes no difference.
func (p *Policy) Allow(ctx context.Context, c Caller, path string, action Action) error {
	if p.open() {
		return allowOpen(c, action)
	}
	who, err := p.whoIs(ctx, c)
	if err != nil {
		return p.refused(c, path, action, err)
	}
	switch {
	case p.may(who, path)&action == action:
		return nil
	case who.token != nil:
		return p.unauthorized(c, path, action, "insufficient_scope")
	case who.user != "":
		return &DeniedError{Message: "this user may not " + action.String() + " in this repository"}
	}
	return p.unauthorized(c, path, action, "")
}

// Everywhere tells whether c may do that with all hosted repositories. It may be false where the rules come to it in a
// roundabout way.
func (p *Policy) Everywhere(ctx context.Context, c Caller, action Action) bool {
	if p.open() {
		return allowOpen(c, action) == nil
	}
	who, err := p.whoIs(ctx, c)
	if err != nil {
		return false
	}
	allowed := p.parts.Rights.everywhere(who.user)
	if who.token != nil && who.token.catalog {
		allowed |= List
	}
	return allowed&action == action
}

// allowOpen decides where there is nobody to log in as.
func allowOpen(c Caller, action Action) error {
	if c.Local || action&^(Read|List) == 0 {
		return nil
	}
	return &DeniedError{Message: "from other hosts only users may change anything, and there are none: " +
		"set registry.users_file or registry.token, or push over loopback"}
}

// refused makes an answer of an error of whoIs.
func (p *Policy) refused(c Caller, path string, action Action, err error) error {
	if errors.Is(err, errWrongLogin) {
		return p.unauthorized(c, path, action, "")
	}
	if errors.Is(err, errWrongToken) {
		return p.unauthorized(c, path, action, "invalid_token")
	}
	return err
}

// unauthorized asks c for credentials, in the way that is right for the name that it has used.
func (p *Policy) unauthorized(c Caller, path string, action Action, why string) error {
	e := &UnauthorizedError{Message: "log in, or as another user"}
	switch {
	case p.parts.Tokens != nil:
		e.Challenge = p.parts.Tokens.challenge(path, action, why)
	case c.OwnName:
		e.Challenge = `Basic realm="` + p.parts.Prefix + `"`
	default:
		e.Message = "log in to " + p.parts.Prefix + ", and ask this registry by that name"
	}
	return e
}
