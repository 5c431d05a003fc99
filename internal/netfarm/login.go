package netfarm

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// A Login is a user of a registry's and the password.
type Login struct{ User, Password string }

func (l Login) pair() string { return l.User + ":" + l.Password }

// LoginFile writes what `docker login` and `podman login` leave behind: the logins by registry, in a file config.json in a
// folder of its own below the host's. It is a podman's --authfile, and its folder a crane's DOCKER_CONFIG or a docker's
// --config.
func (h *Host) LoginFile(name string, logins map[string]Login) (string, error) {
	type auth struct {
		Auth string `json:"auth"`
	}
	auths := map[string]auth{}
	for registry, login := range logins {
		auths[registry] = auth{base64.StdEncoding.EncodeToString([]byte(login.pair()))}
	}
	file := filepath.Join(h.dir, "logins", name, "config.json")
	raw, err := json.Marshal(map[string]any{"auths": auths})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("write logins on %s: %w", h.name, err)
	}
	return file, nil
}

// Login logs a user in at Docker Hub with `docker login` and returns a client of the same daemon that sends this login.
func (d *Docker) Login(ctx context.Context, who Login) (*Docker, error) {
	as := *d
	as.config = filepath.Join(d.host.dir, "logins", "docker-"+who.User)
	_, err := as.CLI(ctx, "login", "--username", who.User, "--password", who.Password)
	return &as, err
}
