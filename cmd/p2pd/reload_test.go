package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// private is a stand-in with images that only ann may read, and shows the password that she has now.
func private(t *testing.T, tags int) *hub.Hub {
	t.Helper()
	h, err := hub.Start(hub.Config{
		Users: map[string]string{"ann": "first"}, Private: map[string][]string{"team/app": {"ann"}}, TokenTTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	for i := range tags {
		image, err := images.Random(t.TempDir(), uint64(i+1), 4096)
		if err != nil {
			t.Fatal(err)
		}
		if err := image.AddTo(h, "team/app", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// tag asks p2pd for a manifest by its tag, which with a tag_ttl of 0 is a question to the upstream each time.
func tag(t *testing.T, registry string, n int) int {
	t.Helper()
	r, err := http.Get(fmt.Sprintf("http://%s/v2/team/app/manifests/%d", registry, n))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.StatusCode
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withCredentials starts p2pd with one rule for team/*.
func withCredentials(t *testing.T, h *hub.Hub, rule string) (p *process, registry string) {
	t.Helper()
	config, registry := configFile(t, h.URL(), "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	written := strings.Replace(string(text), `url: "`+h.URL()+`"`,
		`tag_ttl: 0s, shared: true, credentials: [{match: "team/*", `+rule+`}], url: "`+h.URL()+`"`, 1)
	write(t, config, written)
	return start(t, config, registry), registry
}

// ends stops p2pd and looks whether it has told a secret.
func (p *process) ends(t *testing.T, secrets ...string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, _ := p.end(t, 10*time.Second); code != 0 {
		t.Errorf("p2pd ended with code %d; want 0\n%s", code, p.output)
	}
	for _, secret := range secrets {
		if strings.Contains(p.output.String(), secret) {
			t.Errorf("p2pd's output shows %q:\n%s", secret, p.output)
		}
	}
}

func TestSIGHUPHasTheNextRequestUseTheNewPassword(t *testing.T) {
	t.Parallel()
	h := private(t, 3)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "first")
	// A program's answer is nothing that could be watched.
	p, registry := withCredentials(t, h, `username: ann, exec: [cat, "`+secret+`"]`)
	if got := tag(t, registry, 0); got != http.StatusOK {
		t.Fatalf("GET with the first password = %d; want 200\n%s", got, p.output)
	}
	h.SetPassword("ann", "second")
	write(t, secret, "second")
	before := h.Stats().ByUser["ann"].Tokens
	if got := tag(t, registry, 1); got != http.StatusOK || h.Stats().ByUser["ann"].Tokens != before {
		t.Fatalf("GET before SIGHUP = %d with %d new tokens; want 200 with the old one", got, h.Stats().ByUser["ann"].Tokens-before)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait(t, p, func() bool { return tag(t, registry, 2) == http.StatusOK && h.Stats().ByUser["ann"].Tokens == before+1 })
	p.ends(t, "first", "second")
}

func TestAChangedFileHasTheNextRequestUseTheNewPassword(t *testing.T) {
	t.Parallel()
	auth := func(password string) string {
		return base64.StdEncoding.EncodeToString([]byte("ann:" + password))
	}
	for name, row := range map[string]struct{ rule, first, second string }{
		"password file": {`username: ann, password_file: "%s"`, "first\n", "second\n"},
		"docker config": {
			`docker_config: "%s"`,
			`{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth("first") + `"}}}`,
			`{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth("second") + `"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := private(t, 2)
			dir := t.TempDir()
			// As Kubernetes mounts a secret: a link to a file below a link that is replaced.
			for folder, text := range map[string]string{"1": row.first, "2": row.second} {
				if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, folder, "secret"), text)
			}
			point := func(folder string) {
				t.Helper()
				if err := os.Symlink(folder, filepath.Join(dir, "new")); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")); err != nil {
					t.Fatal(err)
				}
			}
			point("1")
			if err := os.Symlink("data/secret", filepath.Join(dir, "secret")); err != nil {
				t.Fatal(err)
			}
			p, registry := withCredentials(t, h, fmt.Sprintf(row.rule, filepath.Join(dir, "secret")))
			if got := tag(t, registry, 0); got != http.StatusOK {
				t.Fatalf("GET with the first password = %d; want 200\n%s", got, p.output)
			}
			before := h.Stats().ByUser["ann"].Tokens
			h.SetPassword("ann", "second") // the first one's token goes on
			point("2")
			wait(t, p, func() bool { return tag(t, registry, 1) == http.StatusOK && h.Stats().ByUser["ann"].Tokens == before+1 })
			p.ends(t, "first", "second", auth("first"), auth("second"))
		})
	}
}

// wait asks until something holds, which a signal or a changed file brings about at its own time.
func wait(t *testing.T, p *process, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = p.cmd.Process.Kill()
			<-p.ended
			t.Fatalf("does not come about within 10 s: %s", p.output)
		}
	}
}
