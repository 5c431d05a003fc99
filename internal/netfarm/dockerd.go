package netfarm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const engineReadyWithin = time.Minute

// Docker is a dockerd that runs on a host, with images of its own.
type Docker struct {
	*Process
	host   *Host
	socket string
	config string // the folder with the user's logins, "" for none
}

// StartDockerd starts dockerd on the host; config is its daemon.json. Containers that it runs reach each other over
// networks made for them, and nothing else.
func (h *Host) StartDockerd(ctx context.Context, config map[string]any) (*Docker, error) {
	dir := filepath.Join(h.dir, "docker")
	d := &Docker{host: h, socket: filepath.Join(dir, "docker.sock")}
	file := filepath.Join(dir, "daemon.json")
	if config == nil {
		config = map[string]any{}
	}
	text, err := json.Marshal(config)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("configure dockerd on %s: %w", h.name, err)
	}
	args := []string{
		"dockerd", "--config-file", file, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--host", "unix://" + d.socket, "--pidfile", filepath.Join(dir, "pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
	}
	d.Process, err = h.Start(ctx, Spec{
		Args: args, OwnPIDs: true, ReadyWithin: engineReadyWithin,
		Ready: func(ctx context.Context) error {
			_, err := d.CLI(ctx, "version", "--format", "{{.Server.Version}}")
			return err
		},
	})
	return d, err
}

// CLI runs docker with that daemon and returns what it wrote to stdout.
func (d *Docker) CLI(ctx context.Context, args ...string) (string, error) {
	own := []string{dockerCLI(), "--host", "unix://" + d.socket}
	if d.config != "" {
		own = append(own, "--config", d.config)
	}
	out, err := d.host.Run(ctx, Spec{Args: append(own, args...)})
	return strings.TrimSpace(out), err
}

// Socket is the path of the daemon's unix socket.
func (d *Docker) Socket() string { return d.socket }

// Pull pulls an image.
func (d *Docker) Pull(ctx context.Context, image string) error {
	_, err := d.CLI(ctx, "pull", image)
	return err
}

// ImageID is the id of an image that was pulled: the digest of its configuration.
func (d *Docker) ImageID(ctx context.Context, image string) (string, error) {
	return d.CLI(ctx, "image", "inspect", "--format", "{{.Id}}", image)
}

// dockerCLI prefers the client that comes with the daemon to a newer one: new clients refuse old daemons.
func dockerCLI() string {
	const packaged = "/usr/bin/docker"
	if _, err := os.Stat(packaged); err == nil {
		return packaged
	}
	return "docker"
}
