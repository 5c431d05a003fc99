package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	helperTimeout = 5 * time.Second
	execTimeout   = 10 * time.Second
	helperPrefix  = "docker-credential-"
	// tokenUser is the user that helpers name when the secret is an identity token.
	tokenUser = "<token>"
)

// Helper is what the credential helper docker-credential-NAME has for host. It is looked for in $PATH, and has 5 s.
func Helper(name, host string) Source { return helper{name, host} }

type helper struct{ name, host string }

func (h helper) Credentials(ctx context.Context) (Credentials, error) {
	if !isHelperName(h.name) {
		return Credentials{}, fmt.Errorf("credential helper %.100q: is no name of one", h.name)
	}
	out, err := run(ctx, helperTimeout, []string{helperPrefix + h.name, "get"}, h.host+"\n")
	if err != nil {
		if strings.Contains(strings.ToLower(string(out)), "credentials not found") { // what helpers are to say then
			err = errNoCredentials
		}
		return Credentials{}, fmt.Errorf("credential helper %s: of %s: %w", h.name, h.host, err)
	}
	var said struct{ Username, Secret string }
	if json.Unmarshal(out, &said) != nil {
		return Credentials{}, fmt.Errorf("credential helper %s: of %s: answer is not JSON of that kind", h.name, h.host)
	}
	creds := Credentials{Username: said.Username, Password: Secret(said.Secret)}
	if said.Username == tokenUser {
		creds = Credentials{IdentityToken: Secret(said.Secret)}
	}
	if creds.none() {
		return Credentials{}, fmt.Errorf("credential helper %s: of %s: %w", h.name, h.host, errNoCredentials)
	}
	return creds, nil
}

// isHelperName keeps a name from leading out of $PATH.
func isHelperName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`).MatchString(name)
}

// Exec is what a program prints that is run with argv: JSON such as {"username":"robot","password":"…","expiry":
// "2026-01-02T15:04:05Z"}, or with "token" in place of the two; or else nothing but a token. A token is user's password
// where there is a user, else a Bearer token that goes to the registry as it is. expiry may be left out. It has 10 s.
func Exec(user string, argv ...string) Source { return program{user, argv} }

type program struct {
	user string
	argv []string
}

func (p program) Credentials(ctx context.Context) (Credentials, error) {
	if len(p.argv) == 0 {
		return Credentials{}, fmt.Errorf("credential program: none is named")
	}
	out, err := run(ctx, execTimeout, p.argv, "")
	if err != nil {
		return Credentials{}, fmt.Errorf("credential program %s: %w", p.argv[0], err)
	}
	creds, err := p.read(strings.TrimSpace(string(out)))
	if err != nil {
		return Credentials{}, fmt.Errorf("credential program %s: %w", p.argv[0], err)
	}
	return creds, nil
}

// read takes what was printed. Its errors repeat nothing of it.
func (p program) read(text string) (Credentials, error) {
	if !strings.HasPrefix(text, "{") {
		return p.of(text)
	}
	var said struct {
		Username, Password, Token string
		Expiry                    time.Time
	}
	if json.Unmarshal([]byte(text), &said) != nil {
		return Credentials{}, fmt.Errorf("answer is not JSON of that kind")
	}
	creds := Credentials{Username: said.Username, Password: Secret(said.Password)}
	if said.Username == "" {
		var err error
		if creds, err = p.of(said.Token); err != nil {
			return Credentials{}, err
		}
	}
	creds.Expires = said.Expiry
	return creds, nil
}

func (p program) of(token string) (Credentials, error) {
	switch {
	case !validToken(token):
		return Credentials{}, fmt.Errorf("answer has neither a username nor a token")
	case p.user != "":
		return Credentials{Username: p.user, Password: Secret(token)}, nil
	}
	return Credentials{Token: Secret(token)}, nil
}
