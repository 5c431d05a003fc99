package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// DockerConfig is what the Docker configuration file at path (config.json, or podman's auth.json) has for host, by way of
// the credential helper that it names or its own entries. Docker Hub's host is there "https://index.docker.io/v1/".
func DockerConfig(path, host string) Source { return dockerConfig{path, host} }

type dockerConfig struct{ path, host string }

type dockerFile struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

type dockerAuth struct {
	Auth          string `json:"auth"` // base64 of name:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// Credentials goes about it as Docker does: the helper of the host, that of all hosts, the file itself.
func (d dockerConfig) Credentials(ctx context.Context) (Credentials, error) {
	raw, err := readBounded(d.path)
	if err != nil {
		return Credentials{}, fmt.Errorf("docker configuration: %w", err)
	}
	var file dockerFile
	if json.Unmarshal(raw, &file) != nil { // its error may quote what is there
		return Credentials{}, fmt.Errorf("docker configuration %s: is not JSON of that kind", d.path)
	}
	helper := file.CredsStore
	if name, ok := ofHost(file.CredHelpers, d.host); ok {
		helper = name
	}
	if helper != "" {
		creds, err := Helper(helper, d.host).Credentials(ctx)
		if !errors.Is(err, errNoCredentials) {
			return creds, err
		}
	}
	auth, ok := ofHost(file.Auths, d.host)
	if !ok {
		return Credentials{}, fmt.Errorf("docker configuration %s: %w for %s", d.path, errNoCredentials, d.host)
	}
	creds, err := auth.credentials()
	if err != nil {
		return Credentials{}, fmt.Errorf("docker configuration %s: entry of %s: %w", d.path, d.host, err)
	}
	return creds, nil
}

var errNoCredentials = errors.New("no credentials")

func (a dockerAuth) credentials() (Credentials, error) {
	creds := Credentials{
		Username: a.Username, Password: Secret(a.Password),
		IdentityToken: Secret(a.IdentityToken), Token: Secret(a.RegistryToken),
	}
	if a.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		name, password, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return Credentials{}, errors.New(`"auth" is not base64 of a name, a colon and a password`)
		}
		creds.Username, creds.Password = name, Secret(strings.Trim(password, "\x00"))
	}
	if creds.none() {
		return Credentials{}, errNoCredentials
	}
	return creds, nil
}

// ofHost is what a file has for host, which may be written as a host or as the URL of its API.
func ofHost[V any](entries map[string]V, host string) (value V, ok bool) {
	if value, ok = entries[host]; ok {
		return value, true
	}
	want := hostOf(host)
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if at := hostOf(key); at != "" && at == want {
			return entries[key], true
		}
	}
	return value, false
}

// hostOf is the host that a key of such a file stands for, "" when it stands for a part of one.
func hostOf(key string) string {
	if _, after, ok := strings.Cut(key, "://"); ok {
		key = after
	}
	host, path, _ := strings.Cut(key, "/")
	switch strings.Trim(path, "/") {
	case "", "v1", "v2":
	default:
		return ""
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io": // which Docker and podman write for the same
		return "docker.io"
	}
	return host
}
