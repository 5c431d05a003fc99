package registryapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/pullonce/pullonce/access"
)

// Access decides who may do what with hosted repositories. Its methods are called by many goroutines at once and must
// return soon after ctx is done. Errors are an *access.UnauthorizedError, an *access.DeniedError, an
// *access.TooManyLoginsError, or that of ctx.
type Access interface {
	// Login is nil for a caller whose credentials are right, and where none are needed at all.
	Login(ctx context.Context, c access.Caller) error
	// Allow is nil when c may do that with the repository of that path, whether there is such a repository or not.
	Allow(ctx context.Context, c access.Caller, path string, action access.Action) error
	// Everywhere tells whether c may do that with all repositories.
	Everywhere(ctx context.Context, c access.Caller, action access.Action) bool
}

// withCaller is r with who sent it in its context.
func (h *Handler) withCaller(r *http.Request) (*http.Request, error) {
	credential, err := authorizationOf(r.Header)
	if err != nil {
		return r, h.badAuthorization(r, err)
	}
	c := access.Caller{Authorization: credential, OwnName: h.asFarm(r)}
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = remote.Addr()
	}
	// The other end, too: what a host forwards to its own loopback comes from elsewhere.
	c.Local = overLoopback(r) && c.Address.Unmap().IsLoopback()
	return r.WithContext(access.WithCaller(r.Context(), c)), nil
}

// overLoopback tells whether the connection of r ends at a loopback address.
func overLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}

// authorizationOf is the credential of a request, "" when there is none. One that comes twice is refused: one reader
// might take the first, the next one the last.
func authorizationOf(header http.Header) (access.Credential, error) {
	lines := header["Authorization"]
	switch len(lines) {
	case 0:
		return "", nil
	case 1:
		return access.ParseCredential(lines[0])
	}
	return "", access.ErrMalformed
}

// badAuthorization answers an Authorization that cannot be read: a scheme that is not taken is asked for another, the
// rest is no HTTP.
func (h *Handler) badAuthorization(r *http.Request, err error) error {
	if !errors.Is(err, access.ErrScheme) {
		return badRequest(codeUnauthorized, "malformed Authorization header", "")
	}
	if h.asFarm(r) && h.cfg.Access != nil {
		return h.cfg.Access.Login(r.Context(), access.Caller{OwnName: true})
	}
	return &failure{status: http.StatusUnauthorized, code: codeUnauthorized, message: "only Basic and Bearer authorization are taken"}
}

// allow is nil when the caller of r may do that with the hosted repository of that path.
func (h *Handler) allow(ctx context.Context, path string, action access.Action) error {
	if h.cfg.Access == nil {
		return nil
	}
	if err := h.cfg.Access.Allow(ctx, access.CallerOf(ctx), path, action); err != nil {
		return because(ctx, err)
	}
	return nil
}

// everywhere tells whether the caller of ctx may do that with all hosted repositories.
func (h *Handler) everywhere(ctx context.Context, action access.Action) bool {
	return h.cfg.Access == nil || h.cfg.Access.Everywhere(ctx, access.CallerOf(ctx), action)
}

// mayRead is allow for a request that reads, with the time that such a request has.
func (h *Handler) mayRead(r *http.Request, q request) error {
	if h.cfg.Access == nil || !h.hosted(q) || q.kind == kindUpload { // whose handler asks for more
		return nil
	}
	ctx, cancel := h.limited(r)
	defer cancel()
	return h.allow(ctx, q.repo.Path, access.Read)
}

// mayPush is allow for a request that changes something in a hosted repository, or asks for the state of an upload.
func (h *Handler) mayPush(r *http.Request, q request) error {
	if h.cfg.Access == nil {
		return nil
	}
	action := access.Write
	if r.Method == http.MethodDelete && q.kind != kindUpload {
		action = access.Delete
	}
	ctx, cancel := h.limited(r)
	defer cancel()
	return h.allow(ctx, q.repo.Path, action)
}

// login answers the check of a registry by what it asks of its callers. By its own name the farm is a registry with users
// of its own. By any other a client may take it for a mirror, and there it never asks for a password: dockerd would send
// the one for Docker Hub.
func (h *Handler) login(r *http.Request) error {
	c := access.CallerOf(r.Context())
	if c.OwnName {
		if h.cfg.Access == nil {
			return nil
		}
		ctx, cancel := h.limited(r)
		defer cancel()
		if err := h.cfg.Access.Login(ctx, c); err != nil {
			return because(ctx, err)
		}
		return nil
	}
	if h.cfg.BaseChallenge == nil || c.Authorization != "" {
		return nil
	}
	if challenge := h.cfg.BaseChallenge(); challenge != "" {
		return &access.UnauthorizedError{Challenge: challenge}
	}
	return nil
}

// challengeFor is what may be sent of a challenge to who sent r: one for a password by the farm's own name alone,
// whoever has made it.
func (h *Handler) challengeFor(r *http.Request, challenge string) string {
	scheme, _, _ := strings.Cut(challenge, " ")
	if strings.EqualFold(scheme, "Bearer") && !strings.Contains(strings.ToLower(challenge), "basic ") || h.asFarm(r) {
		return challenge
	}
	return ""
}
