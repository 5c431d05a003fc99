package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/raft"

	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// meet looks for another catalog among the members, as there is one when two farms were joined. One of the two is given
// up, if it has nothing that was pushed; if it has, it takes no more until a person has decided. gone says that this
// replica is being given up.
func (c *Catalog) meet(ctx context.Context, r *replica) (gone bool, err error) {
	c.mu.Lock()
	replacing := c.replacing
	c.mu.Unlock()
	other := c.stranger(r.catalog)
	if other == nil || replacing {
		c.refuse(false)
		return false, nil
	}
	hosted := !r.machine.view().Empty()
	if !c.yields(r, hosted, other) {
		c.refuse(false)
		return false, nil
	}
	if hosted {
		c.refuse(other.GetForced() <= r.forced()) // else each replica goes by itself
		return false, nil
	}
	return true, c.giveUp(ctx, r, other.GetCatalog())
}

// replaced is the leader of a catalog that a person has founded by force in the place of r's, or nil. What is still on
// its way in this one is lost with it: so it was wanted.
func (c *Catalog) replaced(r *replica) *catalogpb.HelloReply {
	c.mu.Lock()
	replacing := c.replacing
	c.mu.Unlock()
	if replacing {
		return nil
	}
	for node, reply := range c.fresh() {
		if reply.GetReplica() && reply.GetLeader() == node && reply.GetCatalog() != r.catalog && reply.GetForced() > r.forced() {
			return reply
		}
	}
	return nil
}

// stranger is the leader of another catalog, or nil. Nobody else is sure to know what its catalog has.
func (c *Catalog) stranger(catalog string) *catalogpb.HelloReply {
	for node, reply := range c.fresh() {
		if reply.GetReplica() && reply.GetCatalog() != "" && reply.GetCatalog() != catalog && reply.GetLeader() == node {
			return reply
		}
	}
	return nil
}

// yields tells whether this catalog is the one to go. The other side comes to the opposite answer: what a person founded
// by force, knowing of others, stays; then what has hosted content, then what was not told to join, then what more voters
// keep.
func (c *Catalog) yields(r *replica, hosted bool, other *catalogpb.HelloReply) bool {
	if mine, theirs := r.forced(), other.GetForced(); mine != theirs {
		return mine < theirs
	}
	if hosted != other.GetHosted() {
		return !hosted
	}
	if joins := len(c.seeds) > 0; joins != (len(other.GetSeeds()) > 0) {
		return joins
	}
	if mine, theirs := len(r.servers()), len(other.GetServers()); mine != theirs {
		return mine < theirs
	}
	return r.catalog > other.GetCatalog()
}

func (c *Catalog) refuse(on bool) {
	c.mu.Lock()
	changed := c.refusing != on
	c.refusing = on
	c.mu.Unlock()
	if changed && on {
		c.log.LogAttrs(context.Background(), slog.LevelError, "another catalog has hosted content", slog.Any("error", ErrRefused))
	}
}

// giveUp ends this catalog, which is empty: the leader lets the other replicas go, takes no more commands, and looks
// once more whether it is empty when none can be on its way.
func (c *Catalog) giveUp(ctx context.Context, r *replica, successor string) error {
	for _, s := range r.servers() {
		if s.ID == raft.ServerID(r.name) {
			continue
		}
		name, node := readPlace(s.Address)
		err, waited := r.await(ctx, r.raft.RemoveServer(s.ID, 0, c.cfg.RPC))
		if err != nil || !waited {
			return fmt.Errorf("give up the catalog: remove %s: %w", node, err)
		}
		c.dismiss(ctx, r.catalog, move{remove, name, node})
		return nil // the next one at the next look
	}
	c.mu.Lock()
	c.frozen = true
	busy := c.appending > 0
	c.mu.Unlock()
	if busy {
		return nil // the next look finds them done
	}
	err, waited := r.await(ctx, r.raft.Barrier(c.cfg.Ask))
	if err == nil && waited {
		err = r.reach(ctx, r.raft.CommitIndex())
	}
	if err == nil && waited && r.machine.view().Empty() {
		c.log.LogAttrs(ctx, slog.LevelInfo, "empty catalog given up", slog.String("catalog", r.catalog), slog.String("for", successor))
		return c.do(ctx, func() error {
			if c.current() != r {
				return nil
			}
			return c.retire(successor)
		})
	}
	c.mu.Lock()
	c.frozen = false
	c.mu.Unlock()
	return err
}

// leaveBehind writes a backup of a catalog that a person has replaced, for when that was a mistake.
func (c *Catalog) leaveBehind(ctx context.Context, r *replica) error {
	path := filepath.Join(c.cfg.Dir, "replaced-"+r.catalog+".backup")
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("keep a backup of the replaced catalog: %w", err)
	}
	defer func() { _ = file.Cleanup() }()
	if _, err := r.machine.view().WriteTo(file); err != nil {
		return fmt.Errorf("keep a backup of the replaced catalog: %w", err)
	}
	c.log.LogAttrs(ctx, slog.LevelWarn, "catalog was replaced by force, a backup stays", slog.String("file", path))
	return file.CloseAtomicallyReplace()
}

// forcedSetting says when a person founded the catalog by force, in nanoseconds of the Unix time.
const forcedSetting = "founded_by_force"

// forced is when a person founded this catalog by force, 0 when nobody did.
func (r *replica) forced() int64 {
	n, _ := strconv.ParseInt(string(r.machine.view().Setting(forcedSetting)), 10, 64)
	return n
}

// ByForce tells whether a person founded the catalog that can be asked now, by force. On every node.
func (c *Catalog) ByForce(ctx context.Context) (bool, error) {
	at, err := c.Setting(ctx, forcedSetting, false)
	return len(at) > 0, err
}
