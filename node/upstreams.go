package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/transfer"
	"github.com/pullonce/pullonce/upstream"
)

// upstreams are the registries outside the farm by name: a closed list.
type upstreams struct {
	clients map[string]*upstream.Client
	cfg     Config
	links   *links
	// standings and rights say in whose names a repository is asked for.
	standings *standings
	rights    *rights
}

func newUpstreams(cfg Config, links *links, standings *standings, log *slog.Logger) (*upstreams, error) {
	u := &upstreams{clients: make(map[string]*upstream.Client), cfg: cfg, links: links, standings: standings}
	u.rights = newRights(u.farmMayRead)
	shared := upstream.NewLimit(cfg.UpstreamRate)
	var errs []error
	for name, cfg := range cfg.Upstreams {
		cfg.Client.Name, cfg.Client.Shared = name, shared
		client, err := upstream.New(cfg.Client, log.With(slog.String("upstream", name)))
		if err != nil {
			errs = append(errs, fmt.Errorf("upstream %s: %w", name, err))
			continue
		}
		u.clients[name] = client
	}
	return u, errors.Join(errs...)
}

func (u *upstreams) close() {
	for _, c := range u.clients {
		c.Close()
	}
}

// farmMayRead tells whether the farm has credentials of its own for a repository.
func (u *upstreams) farmMayRead(repo oci.Repository) bool {
	c, err := u.of(repo)
	return err != nil || c.HasCredentials(repo.Path)
}

// of is the client of a repository's upstream.
func (u *upstreams) of(repo oci.Repository) (*upstream.Client, error) {
	c, ok := u.clients[repo.Upstream]
	if !ok {
		return nil, fmt.Errorf("%w: upstream %.100q is not configured", oci.ErrNameUnknown, repo.Upstream)
	}
	return c, nil
}

// Blob opens a blob's bytes for the engine. That the upstream gives them through this repository is the repository's
// confirmation that it has the blob, which is kept as a link.
func (u *upstreams) Blob(ctx context.Context, repo oci.Repository, d oci.Digest, off, n int64) (transfer.Body, error) {
	var s *upstream.Stream
	before, known := u.standings.of(repo)
	err := u.askAs(ctx, repo, func(who name, c *upstream.Client) (shows bool, err error) {
		s, err = c.Stream(ctx, repo.Path, d, off, n)
		// A storage that was named a moment ago gives what the upstream itself may not give any more.
		return !who.anonymous || !known || before.Public, err
	})
	if err != nil {
		return transfer.Body{}, err
	}
	u.links.note(repo, d, s.Size())
	return transfer.Body{ReadCloser: s, End: s.End(), Size: s.Size(), Skip: s.Skip()}, nil
}

// Prepare gets ready to ask for a repository's blobs, beside what else must be done before.
func (u *upstreams) Prepare(ctx context.Context, repo oci.Repository) {
	if c, err := u.of(repo); err == nil {
		c.As(u.names(c, repo)[0].Identity).Prepare(ctx, repo.Path)
	}
}

// connections is how many ranges of one blob of a repository may be read at once, 0 when its upstream gives none.
func (u *upstreams) connections(repo oci.Repository) int {
	c, err := u.of(repo)
	switch {
	case err != nil:
		return 1 // it is told so when it asks
	case !c.Ranges():
		return 0
	}
	cfg := u.cfg.Upstreams[repo.Upstream]
	if cfg.Connections == 0 {
		return u.cfg.Transfer.UpstreamConnections
	}
	return cfg.Connections
}

// StatBlob asks a repository for a blob's size; the answer is a confirmation too.
func (u *upstreams) StatBlob(ctx context.Context, repo oci.Repository, d oci.Digest) (int64, error) {
	var size int64
	err := u.ask(ctx, repo, func(c *upstream.Client) (err error) {
		size, err = c.StatBlob(ctx, repo.Path, d)
		return err
	})
	if err != nil {
		return 0, err
	}
	u.links.note(repo, d, size)
	return size, nil
}
