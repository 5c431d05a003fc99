package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// claims is what a token says; the shape is that of the tokens that Docker Hub gives out.
type claims struct {
	Issuer   string   `json:"iss"`
	User     string   `json:"sub"` // empty: anonymous
	Audience string   `json:"aud"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"` // nanoseconds, so that tests can use short lives
	Access   []access `json:"access"`
	Epoch    int64    `json:"epoch"` // of RevokeTokens
}

// access is one scope that was granted.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (c claims) allows(repo, action string) bool {
	return slices.ContainsFunc(c.Access, func(a access) bool {
		return a.Type == "repository" && a.Name == repo && slices.Contains(a.Actions, action)
	})
}

// tokenAnswer is what the token service answers. OAuth2 clients read access_token.
type tokenAnswer struct {
	Token       string    `json:"token"`
	AccessToken string    `json:"access_token"`
	Scope       string    `json:"scope,omitempty"`
	ExpiresIn   int       `json:"expires_in"`
	IssuedAt    time.Time `json:"issued_at"`
}

// serveToken answers GET with Basic credentials or none, and the OAuth2 form POST with a password or an identity token.
func (h *Hub) serveToken(w http.ResponseWriter, r *http.Request) {
	q := request{kind: Token, method: r.Method}
	a := h.newAnswer(w, r, q)
	h.stats.arrived(q, r)
	if !a.before(r, h.early(q)) || !a.before(r, h.late(q)) {
		return
	}
	defer a.finish()
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		writeError(a, http.StatusMethodNotAllowed, "UNSUPPORTED", "the token service takes GET and POST")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		writeError(a, http.StatusBadRequest, "BAD_REQUEST", "the form cannot be read")
		return
	}
	user, err := h.user(r)
	h.stats.byUser(user, func(u *UserStats) { u.Tokens++ })
	if err != nil {
		writeJSON(a, http.StatusUnauthorized, map[string]string{"details": "incorrect username or password"})
		return
	}
	writeJSON(a, http.StatusOK, h.grant(user, r.Form["scope"]))
}

// user returns who asks for a token: a name, "" for anonymous, or an error for a wrong password.
func (h *Hub) user(r *http.Request) (string, error) {
	name, password, ok := r.BasicAuth()
	if r.Method == http.MethodPost {
		switch r.PostForm.Get("grant_type") {
		case "password":
			name, password, ok = r.PostForm.Get("username"), r.PostForm.Get("password"), true
		case "refresh_token":
			return h.identified(r.PostForm.Get("refresh_token"))
		}
	}
	if !ok {
		return "", nil
	}
	return name, h.rights.check(name, password)
}

// grant makes a token with what user may do of what the scopes ask for.
func (h *Hub) grant(user string, scopes []string) tokenAnswer {
	issued := time.Now().UTC()
	c := claims{
		Issuer: "auth.docker.io", User: user, Audience: h.cfg.Service,
		Issued: issued.Unix(), Expires: issued.Add(h.cfg.TokenTTL).UnixNano(), Epoch: h.rights.era(),
	}
	for _, text := range scopes {
		for scope := range strings.FieldsSeq(text) {
			if granted, ok := h.granted(user, scope); ok {
				c.Access = append(c.Access, granted)
			}
		}
	}
	token := h.signToken(c)
	return tokenAnswer{
		Token: token, AccessToken: token, Scope: strings.Join(scopes, " "),
		ExpiresIn: int(h.cfg.TokenTTL / time.Second), IssuedAt: issued,
	}
}

// granted reads a scope such as "repository:library/app:pull,push" and returns what of it user gets.
func (h *Hub) granted(user, scope string) (access, bool) {
	kind, rest, _ := strings.Cut(scope, ":")
	at := strings.LastIndex(rest, ":")
	if kind != "repository" || at <= 0 {
		return access{}, false
	}
	a := access{Type: kind, Name: rest[:at]}
	for action := range strings.SplitSeq(rest[at+1:], ",") {
		if h.rights.may(user, a.Name, action) {
			a.Actions = append(a.Actions, action)
		}
	}
	return a, len(a.Actions) > 0
}

var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

func (h *Hub) signToken(c claims) string {
	raw, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("marshal claims: %v", err)) // strings and numbers always marshal
	}
	signed := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(raw)
	return signed + "." + h.mac(signed)
}

// mac signs text with the Hub's key.
func (h *Hub) mac(text string) string {
	m := hmac.New(sha256.New, h.key)
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// readToken returns what a token says if the Hub gave it out and it has not expired.
func (h *Hub) readToken(token string) (claims, error) {
	var c claims
	at := strings.LastIndex(token, ".")
	if at < 0 || !hmac.Equal([]byte(h.mac(token[:at])), []byte(token[at+1:])) {
		return c, errors.New("the token's signature is wrong")
	}
	_, payload, _ := strings.Cut(token[:at], ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, err
	}
	if time.Now().UnixNano() > c.Expires || c.Epoch != h.rights.era() {
		return c, errors.New("the token has expired")
	}
	return c, nil
}

// authorized returns what the request's token says, or answers 401 with a challenge.
func (h *Hub) authorized(w http.ResponseWriter, r *http.Request, q request) (claims, bool) {
	if h.cfg.AuthOff {
		return claims{}, true
	}
	if h.cfg.Basic {
		return h.loggedIn(w, r, q)
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		h.challenge(w, r, q, "")
		return claims{}, false
	}
	c, err := h.readToken(bearer)
	if err != nil {
		h.challenge(w, r, q, "invalid_token")
		return claims{}, false
	}
	for _, action := range q.actions() {
		switch {
		case q.repo == "" || c.allows(q.repo, action):
		case h.cfg.Hide && !q.writes():
			h.hide(w, q)
			return claims{}, false
		default:
			h.challenge(w, r, q, "insufficient_scope")
			return claims{}, false
		}
	}
	return c, true
}

// actions are the rights that a request needs.
func (q request) actions() []string {
	switch {
	case q.method == http.MethodDelete:
		return []string{"delete"}
	case q.writes():
		return []string{"pull", "push"}
	}
	return []string{"pull"}
}

func (h *Hub) challenge(w http.ResponseWriter, r *http.Request, q request, problem string) {
	h.stats.change(func(s *Stats) { s.Challenges++ })
	text := fmt.Sprintf("Bearer realm=%q,service=%q", h.publicURL(authEnd, r)+"/token", h.cfg.Service)
	var detail any
	if q.repo != "" {
		text += fmt.Sprintf(",scope=%q", "repository:"+q.repo+":"+strings.Join(q.actions(), ","))
		detail = []map[string]string{{
			"Type": "repository", "Class": "", "Name": q.repo, "Action": strings.Join(q.actions(), ","),
		}}
	}
	if problem != "" {
		text += fmt.Sprintf(",error=%q", problem)
	}
	w.Header().Set("WWW-Authenticate", text)
	writeErrorDetail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", detail)
}
