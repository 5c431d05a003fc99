package main

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/registryapi"
)

func TestUsersGuardWhatIsHostedAndAreReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	set := func(user string) {
		t.Helper()
		hashed, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(user+":"+string(hashed)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("alice")
	d, err := openDoors(config.Config{
		Hosted: config.Hosted{Prefix: "farm.internal"}, Registry: config.Registry{UsersFile: path},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var c registryapi.Config
	d.protect(&c)
	if c.TLS != nil || len(d.files) != 1 || d.files[0] != path {
		t.Errorf("protect gives TLS %v, files %v; want none and the users'", c.TLS, d.files)
	}
	may := func(user string) bool {
		caller := access.Caller{Local: true, Authorization: access.Credential("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":x")))}
		return c.Access.Allow(t.Context(), caller, "team/app", access.Write) == nil
	}
	if !may("alice") || may("bob") || c.Access.Allow(t.Context(), access.Caller{Local: true}, "team/app", access.Write) == nil {
		t.Error("the users in the file are not those who may push")
	}
	set("bob")
	d.reload()
	if may("alice") || !may("bob") {
		t.Error("after a reload the users are not those of the file")
	}
}

func TestWithoutAWordOfUsersOnlyLoopbackPushes(t *testing.T) {
	d, err := openDoors(config.Config{Hosted: config.Hosted{Prefix: "farm.internal"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var c registryapi.Config
	d.protect(&c)
	local := c.Access.Allow(t.Context(), access.Caller{Local: true}, "team/app", access.Write)
	remote := c.Access.Allow(t.Context(), access.Caller{}, "team/app", access.Write)
	if local != nil || remote == nil {
		t.Errorf("a push over loopback: %v, from elsewhere: %v; want that only the first may", local, remote)
	}
}
