package hub_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/pullonce/pullonce/internal/hub"
)

func TestListenersOfTheCallerAreUsedAndClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, hub.Config{RegistryListener: ln, AuthOff: true, NoRedirect: true, RegistryURL: "http://registry.example/"})
	image := random(t, h, "library/app", "1", 5000)
	if h.URL() != "http://registry.example" || h.Host() != "registry.example" {
		t.Errorf("URL is %s, Host %s; want the configured one", h.URL(), h.Host())
	}
	resp, err := http.Get("http://" + ln.Addr().String() + "/v2/library/app/blobs/" + image.Layers[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 200 || resp.ContentLength != 5000 {
		t.Errorf("got %s with %d bytes; want 200 with 5000", resp.Status, resp.ContentLength)
	}
	if _, err := h.AddFault(hub.Fault{Do: hub.Refuse}); err == nil {
		t.Error("a given listener was closed for a while; want an error, as it cannot be opened again")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener is open after Close")
	}
}

func TestTheTokenServiceTakesOAuthForms(t *testing.T) {
	h := start(t, hub.Config{Users: map[string]string{"ann": "secret"}, Private: map[string][]string{"team/app": {"ann"}}})
	random(t, h, "team/app", "1", 5000)
	c := newClient(t, h)
	for password, status := range map[string]int{"secret": 200, "wrong": 401} {
		resp, err := c.http.PostForm(h.TokenURL(), url.Values{
			"grant_type": {"password"}, "username": {"ann"}, "password": {password},
			"service": {"registry.docker.io"}, "scope": {"repository:team/app:pull"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Token     string `json:"access_token"`
			ExpiresIn int    `json:"expires_in"`
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != status || (status == 200) != (answer.ExpiresIn == 300) {
			t.Errorf("password %q: %s, %+v, %v; want %d", password, resp.Status, answer, err, status)
		}
		if status == 200 {
			c.token = answer.Token
			c.want(c.do("GET", "/v2/team/app/manifests/1"), 200)
		}
	}
}
