package catalog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// Backup writes the whole catalog, with all that was answered before the call, as a snapshot that checks itself. On a
// node without a replica the leader writes it.
func (c *Catalog) Backup(ctx context.Context, w io.Writer) error {
	if c.current() != nil {
		view, err := c.Read(ctx, false)
		if err != nil {
			return err
		}
		_, err = view.WriteTo(w)
		return err
	}
	leader := c.route().leader
	if leader == "" {
		return fmt.Errorf("%w: no leader is known", ErrNoQuorum)
	}
	client, err := c.client(leader)
	if err != nil {
		return err
	}
	stream, err := client.Backup(ctx, &catalogpb.BackupRequest{Catalog: c.identity().Catalog})
	for err == nil {
		var part *catalogpb.BackupReply
		if part, err = stream.Recv(); err == nil {
			_, err = w.Write(part.GetData())
		}
	}
	if errors.Is(err, io.EOF) {
		return nil // whether it is whole, the sum at its end tells
	}
	return fmt.Errorf("back up from %s: %w", leader, err)
}

// Backup implements catalogpb.CatalogServer.
func (s *server) Backup(p *catalogpb.BackupRequest, stream catalogpb.Catalog_BackupServer) error {
	if s.catalog.identity().Catalog != p.GetCatalog() {
		return wireError(errors.New("another catalog is kept here"))
	}
	view, err := s.catalog.Read(stream.Context(), false)
	if err != nil {
		return wireError(err)
	}
	out := bufio.NewWriterSize(sender{stream}, 256<<10)
	if _, err := view.WriteTo(out); err != nil {
		return err
	}
	return out.Flush()
}

// sender makes messages of what is written to it.
type sender struct {
	stream catalogpb.Catalog_BackupServer
}

func (s sender) Write(b []byte) (int, error) {
	if err := s.stream.Send(&catalogpb.BackupReply{Data: bytes.Clone(b)}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Restore founds a new catalog on this node from a backup, for when the old one is lost: all its voters are gone, or
// its data is. A replica that this node has is given up, with what it holds. Nothing happens when the backup cannot be
// read whole and right (ErrSnapshotInvalid), or when this node's catalog still has a quorum and force is not set.
func (c *Catalog) Restore(ctx context.Context, backup io.Reader, force bool) error {
	s, err := readSnapshot(backup)
	if err != nil {
		return fmt.Errorf("restore catalog: %w", err)
	}
	return c.replace(ctx, s, force)
}

// Bootstrap founds a new catalog on this node by force: with what its replica has, or empty when it keeps none. It is a
// person's way out when no majority of seeds or voters comes back; only a person can know that. Nothing happens when
// the catalog has a quorum.
func (c *Catalog) Bootstrap(ctx context.Context) error {
	s := newState()
	if r := c.current(); r != nil {
		s = r.machine.view().s
	}
	return c.replace(ctx, s, false)
}

// skipped is how many indexes a catalog that is founded anew leaves out: the lost one may have given them to commands that
// only notes beside copies tell of. What is written from now on must come after these by its index, too.
const skipped = 1 << 32

// replace founds a new catalog with the state s.
func (c *Catalog) replace(ctx context.Context, s *state, force bool) error {
	if !force && c.route().leader != "" {
		return ErrQuorum
	}
	next := *s // others may read s
	next.index += skipped
	next.settings = newTree(settingItem.less) // of its own: trees that are shared are for the machine to copy
	for item := range s.settings.all() {
		next.settings.put(item)
	}
	next.settings.put(settingItem{forcedSetting, strconv.AppendInt(nil, time.Now().UnixNano(), 10), next.index})
	s = &next
	var data bytes.Buffer
	if _, err := (View{s}).WriteTo(&data); err != nil {
		return err
	}
	name := newName()
	c.setReplacing(true)
	defer c.setReplacing(false)
	if err := c.do(ctx, func() error { return c.refound(name) }); err != nil {
		return fmt.Errorf("found catalog anew: %w", err)
	}
	r := c.current()
	for r == nil || r.catalog != name || !r.leads() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
		r = c.current()
	}
	if err := r.settle(ctx, r.raft.CurrentTerm()); err != nil { // raft restores nothing before it has committed who votes
		return fmt.Errorf("restore catalog: %w", err)
	}
	meta := &raft.SnapshotMeta{Version: 1, Index: s.index, Term: 1, Size: int64(data.Len())}
	err, waited := r.await(ctx, restoring{r, meta, &data})
	if !waited {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("restore catalog: %w", err)
	}
	return nil
}

// setReplacing notes that a person is founding a catalog here, which yields to no other meanwhile, or that this has ended.
func (c *Catalog) setReplacing(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replacing = on
	if !on {
		c.frozen = false
	}
}

// refound makes this node the first voter of a new catalog that takes nothing yet.
func (c *Catalog) refound(catalog string) error {
	var err error
	if r := c.detach(); r != nil {
		err = r.close(false)
	}
	c.mu.Lock()
	c.frozen = true
	c.mu.Unlock()
	id := identity{Raft: newName(), Catalog: catalog, Replica: true, Promised: c.identity().Promised}
	id.Accepted = value{Catalog: catalog, Node: c.cfg.Node, Raft: id.Raft}
	if err := errors.Join(err, removeState(c.cfg.Dir), c.become(id)); err != nil {
		return err
	}
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "catalog founded by force", slog.String("catalog", catalog))
	return c.attach(id)
}

// restoring is the future of a restore.
type restoring struct {
	r    *replica
	meta *raft.SnapshotMeta
	data io.Reader
}

func (f restoring) Error() error { return f.r.raft.Restore(f.meta, f.data, f.r.cfg.RPC) }

// Leave gives up this node's replica, for a person who knows that its catalog is of no use any more. The node then
// looks for another one.
func (c *Catalog) Leave(ctx context.Context) error {
	return c.do(ctx, func() error { return c.retire("") })
}
