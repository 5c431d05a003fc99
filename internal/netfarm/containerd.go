package netfarm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Containerd is a containerd that runs on a host, with images of its own.
type Containerd struct {
	*Process
	host    *Host
	address string
}

// StartContainerd starts containerd on the host.
func (h *Host) StartContainerd(ctx context.Context) (*Containerd, error) {
	dir := filepath.Join(h.dir, "ctd")
	c := &Containerd{host: h, address: filepath.Join(dir, "c.sock")}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.address)
	if err := writeFile(filepath.Join(dir, "config.toml"), config); err != nil {
		return nil, fmt.Errorf("configure containerd on %s: %w", h.name, err)
	}
	var err error
	c.Process, err = h.Start(ctx, Spec{
		Args: []string{"containerd", "--config", filepath.Join(dir, "config.toml")}, OwnPIDs: true, ReadyWithin: engineReadyWithin,
		Ready: func(ctx context.Context) error {
			_, err := c.CLI(ctx, "version")
			return err
		},
	})
	return c, err
}

// CLI runs ctr with that daemon and returns what it wrote to stdout.
func (c *Containerd) CLI(ctx context.Context, args ...string) (string, error) {
	out, err := c.host.Run(ctx, Spec{Args: append([]string{"ctr", "--address", c.address}, args...)})
	return strings.TrimSpace(out), err
}

// Pull pulls an image, whose name begins with its registry's, and unpacks it. It is kept in a namespace of containerd's.
// hosts has the hosts.toml of each registry, by its name, which may be _default.
func (c *Containerd) Pull(ctx context.Context, namespace string, hosts map[string]string, image string) error {
	return c.pull(ctx, namespace, hosts, image)
}

// PullAs is Pull in a user's name.
func (c *Containerd) PullAs(ctx context.Context, namespace string, hosts map[string]string, who Login, image string) error {
	return c.pull(ctx, namespace, hosts, "--user", who.pair(), image)
}

func (c *Containerd) pull(ctx context.Context, namespace string, hosts map[string]string, args ...string) error {
	dir, err := c.hostsDir(namespace, hosts)
	if err == nil {
		_, err = c.CLI(ctx, append([]string{"--namespace", namespace, "images", "pull", "--hosts-dir", dir}, args...)...)
	}
	return err
}

// Push pushes an image that is in a namespace to the registry that its name begins with; hosts is as for Pull.
func (c *Containerd) Push(ctx context.Context, namespace string, hosts map[string]string, image string) error {
	dir, err := c.hostsDir(namespace, hosts)
	if err == nil {
		_, err = c.CLI(ctx, "--namespace", namespace, "images", "push", "--hosts-dir", dir, image)
	}
	return err
}

// hostsDir writes the hosts.toml of each registry.
func (c *Containerd) hostsDir(namespace string, hosts map[string]string) (string, error) {
	dir := filepath.Join(c.host.dir, "ctd", "hosts-"+namespace)
	for registry, text := range hosts {
		if err := writeFile(filepath.Join(dir, registry, "hosts.toml"), text); err != nil {
			return "", fmt.Errorf("configure ctr on %s: %w", c.host.name, err)
		}
	}
	return dir, nil
}

// Digest is the digest of the manifest or index of an image that was pulled.
func (c *Containerd) Digest(ctx context.Context, namespace, image string) (string, error) {
	list, err := c.CLI(ctx, "--namespace", namespace, "images", "list", "name=="+image)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == image {
			return fields[2], nil
		}
	}
	return "", fmt.Errorf("containerd on %s has no image %s", c.host.name, image)
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
