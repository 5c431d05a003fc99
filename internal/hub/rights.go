package hub

import (
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// rights are the users, and who of them may read what. They change while the Hub runs.
type rights struct {
	mu        sync.Mutex
	passwords map[string]string
	readers   map[string][]string // of private repositories
	epoch     int64               // tokens of an earlier one are refused
}

func newRights(cfg Config) *rights {
	r := &rights{passwords: map[string]string{}, readers: map[string][]string{}}
	maps.Copy(r.passwords, cfg.Users)
	for repo, users := range cfg.Private {
		r.readers[repo] = slices.Clone(users)
	}
	return r
}

// errLogin is the answer to unknown users and wrong passwords.
var errLogin = errors.New("unknown user or wrong password")

func (r *rights) check(user, password string) error {
	r.mu.Lock()
	want, known := r.passwords[user]
	r.mu.Unlock()
	if !known || !hmac.Equal([]byte(want), []byte(password)) {
		return errLogin
	}
	return nil
}

func (r *rights) knows(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.passwords[user]
	return ok
}

// may tells whether user ("" is anonymous) may pull from or push to a repository.
func (r *rights) may(user, repo, action string) bool {
	r.mu.Lock()
	readers, private := r.readers[repo]
	r.mu.Unlock()
	if private && !slices.Contains(readers, user) {
		return false
	}
	switch action {
	case "pull":
		return true
	case "push", "delete":
		return user != ""
	}
	return false
}

func (r *rights) era() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch
}

// SetReaders makes a repository private to those users from now on, to nobody when there are none. Tokens that were given
// out keep what they allow until they end, as Docker Hub's do; RevokeTokens ends them.
func (h *Hub) SetReaders(repo string, users ...string) {
	h.rights.mu.Lock()
	defer h.rights.mu.Unlock()
	h.rights.readers[repo] = slices.Clone(users)
}

// SetPublic lets everybody read a repository from now on.
func (h *Hub) SetPublic(repo string) {
	h.rights.mu.Lock()
	defer h.rights.mu.Unlock()
	delete(h.rights.readers, repo)
}

// SetPassword changes a user's password, or makes the user.
func (h *Hub) SetPassword(user, password string) {
	h.rights.mu.Lock()
	defer h.rights.mu.Unlock()
	h.rights.passwords[user] = password
}

// RevokeTokens ends all tokens that were given out.
func (h *Hub) RevokeTokens() {
	h.rights.mu.Lock()
	defer h.rights.mu.Unlock()
	h.rights.epoch++
}

// IdentityToken is a refresh token of a user, as `docker login` keeps it where the token service gives one.
func (h *Hub) IdentityToken(user string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + h.mac("identity "+user)
}

// identified is the user that an identity token is of.
func (h *Hub) identified(token string) (string, error) {
	name, mac, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || !hmac.Equal([]byte(h.mac("identity "+string(raw))), []byte(mac)) || !h.rights.knows(string(raw)) {
		return "", errLogin
	}
	return string(raw), nil
}

// loggedIn is what authorized is for a Hub that wants Basic.
func (h *Hub) loggedIn(w http.ResponseWriter, r *http.Request, q request) (claims, bool) {
	user, password, given := r.BasicAuth()
	if given && h.rights.check(user, password) != nil || !given && (q.repo == "" || q.writes()) {
		h.challengeBasic(w)
		return claims{}, false
	}
	for _, action := range q.actions() {
		switch {
		case q.repo == "" || h.rights.may(user, q.repo, action):
		case h.cfg.Hide && !q.writes():
			h.hide(w, q)
			return claims{}, false
		case !given:
			h.challengeBasic(w)
			return claims{}, false
		default:
			writeError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
			return claims{}, false
		}
	}
	return claims{User: user}, true
}

func (h *Hub) challengeBasic(w http.ResponseWriter) {
	h.stats.change(func(s *Stats) { s.Challenges++ })
	w.Header().Set("WWW-Authenticate", `Basic realm="`+h.cfg.Service+`"`)
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// hide answers as if the repository were not there.
func (h *Hub) hide(w http.ResponseWriter, q request) {
	writeErrorDetail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry", map[string]string{"name": q.repo})
}
