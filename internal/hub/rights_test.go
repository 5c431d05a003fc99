package hub_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
)

const (
	teamPath  = "/v2/team/app/manifests/1"
	teamScope = "repository:team/app:pull"
)

// status asks for a path with Basic credentials, or none for "".
func (c *client) status(path, user, password string) (int, http.Header) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.h.URL()+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func TestWhoMayReadChangesWhileItRuns(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "secret", "bob": "word"}})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	as := func(user, password string, want int) {
		t.Helper()
		c.login(user, password, teamScope)
		c.want(c.do("GET", teamPath), want)
	}
	as("", "", 200)
	h.SetReaders("team/app", "ann")
	as("", "", 401)
	as("bob", "word", 401)
	as("ann", "secret", 200)
	h.SetReaders("team/app")
	c.want(c.do("GET", teamPath), 200) // the token from before
	h.RevokeTokens()
	c.want(c.do("GET", teamPath), 401)
	as("ann", "secret", 401)
	h.SetReaders("team/app", "bob")
	as("bob", "word", 200)
	h.SetPublic("team/app")
	as("", "", 200)
}

func TestPasswordsChangeWhileItRuns(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "old"}, Basic: true})
	random(t, h, "team/app", "1", 5000)
	h.SetReaders("team/app", "ann")
	c := newClient(t, h)
	h.SetPassword("ann", "new")
	for password, want := range map[string]int{"old": 401, "new": 200} {
		if got, _ := c.status(teamPath, "ann", password); got != want {
			t.Errorf("GET with the %s password = %d; want %d", password, got, want)
		}
	}
}

func TestARegistryMayWantBasic(t *testing.T) {
	h := start(t, hub.Config{
		Users: map[string]string{"ann": "secret", "bob": "word"}, Private: map[string][]string{"team/app": {"ann"}}, Basic: true,
	})
	random(t, h, "team/app", "1", 5000)
	random(t, h, "library/app", "1", 5000)
	c := newClient(t, h)
	for _, row := range []struct {
		path, user, password string
		want                 int
	}{
		{"/v2/", "", "", 401},
		{"/v2/", "ann", "secret", 200},
		{"/v2/library/app/manifests/1", "", "", 200},
		{"/v2/library/app/manifests/1", "ann", "wrong", 401},
		{teamPath, "", "", 401},
		{teamPath, "bob", "word", 403},
		{teamPath, "ann", "secret", 200},
	} {
		got, header := c.status(row.path, row.user, row.password)
		if got != row.want || (got == 401) != strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("GET %s by %q = %d, %q; want %d", row.path, row.user, got, header.Get("WWW-Authenticate"), row.want)
		}
	}
}

func TestPrivateRepositoriesMayBeHidden(t *testing.T) {
	for _, basic := range []bool{false, true} {
		h := start(t, hub.Config{
			Users: map[string]string{"ann": "secret", "bob": "word"}, Private: map[string][]string{"team/app": {"ann"}}, Basic: basic, Hide: true,
		})
		random(t, h, "team/app", "1", 5000)
		c := newClient(t, h)
		for _, row := range []struct {
			user, password string
			want           int
		}{{"", "", 404}, {"bob", "word", 404}, {"ann", "secret", 200}} {
			var got int
			if basic {
				got, _ = c.status(teamPath, row.user, row.password)
			} else {
				c.login(row.user, row.password, teamScope)
				got = c.do("GET", teamPath).status
			}
			if got != row.want {
				t.Errorf("GET by %q of a hub with Basic %v = %d; want %d", row.user, basic, got, row.want)
			}
		}
	}
}

func TestRequestsAreCountedByUser(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "secret"}})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	c.login("", "", teamScope)
	c.want(c.do("GET", teamPath), 200)
	c.login("ann", "secret", teamScope)
	for range 2 {
		c.want(c.do("GET", teamPath), 200)
	}
	by := h.Stats().ByUser
	if by[""] != (hub.UserStats{Requests: 1, Tokens: 1}) || by["ann"] != (hub.UserStats{Requests: 2, Tokens: 1}) || len(by) != 2 {
		t.Errorf("ByUser = %+v; want 1 request of nobody, 2 of ann, a token each", by)
	}
	h.Reset()
	if by := h.Stats().ByUser; len(by) != 0 {
		t.Errorf("ByUser after Reset = %+v; want none", by)
	}
}

func TestIdentityTokensAreTaken(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "secret"}, Private: map[string][]string{"team/app": {"ann"}}})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	for token, want := range map[string]int{h.IdentityToken("ann"): 200, h.IdentityToken("eve"): 401, h.IdentityToken("ann") + "x": 401, "": 401} {
		resp, err := c.http.PostForm(h.TokenURL(), url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {token}, "service": {"registry.docker.io"}, "scope": {teamScope},
		})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Token string `json:"access_token"`
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("POST of identity token %q = %s, %v; want %d", token, resp.Status, err, want)
		}
		if want == 200 {
			c.token = answer.Token
			c.want(c.do("GET", teamPath), 200)
		}
	}
}

func TestTheAdminAPIChangesRights(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "old"}, Basic: true, AdminListen: "127.0.0.1:0"})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	post := func(path, body string) {
		t.Helper()
		resp, err := c.http.Post(h.AdminURL()+path, "application/json", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("POST %s = %s", path, resp.Status)
		}
	}
	post("/hub/password", `{"user":"ann","password":"new"}`)
	post("/hub/readers", `{"repo":"team/app","users":["ann"]}`)
	if got, _ := c.status(teamPath, "", ""); got != 401 {
		t.Errorf("GET by nobody = %d; want 401", got)
	}
	if got, _ := c.status(teamPath, "ann", "new"); got != 200 {
		t.Errorf("GET by ann = %d; want 200", got)
	}
	post("/hub/readers", `{"repo":"team/app"}`)
	if got, _ := c.status(teamPath, "ann", "new"); got != 403 {
		t.Errorf("GET by ann without rights = %d; want 403", got)
	}
	post("/hub/readers", `{"repo":"team/app","public":true}`)
	post("/hub/revoke", ``)
	if got, _ := c.status(teamPath, "", ""); got != 200 {
		t.Errorf("GET of what is public = %d; want 200", got)
	}
}
