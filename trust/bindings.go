package trust

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	trustpb "github.com/pullonce/pullonce/proto/trust"
)

// copyFile is where a voter keeps a copy of which key belongs to which node, for when there is no quorum.
const copyFile = "nodes.copy"

// bind makes key the one of the node until some time after ends, or fails with ErrChanged when the entry is not of that
// index.
func bind(ctx context.Context, l Ledger, node string, key []byte, token string, ends time.Time, index uint64) error {
	r := &trustpb.NodeRecord{KeySha256: key, Joined: time.Now().UnixNano(), Token: token, Ends: ends.UnixNano()}
	return putNode(ctx, l, node, r, index)
}

func putNode(ctx context.Context, l Ledger, node string, r *trustpb.NodeRecord, index uint64) error {
	value, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode what is kept of %s: %w", node, err)
	}
	if _, err := l.Swap(ctx, nodesKey+node, value, index); err != nil {
		return fmt.Errorf("bind %s to its key: %w", node, err)
	}
	return nil
}

// confirm holds a node that has a certificate until ends, or is to get one, to the key that its id is bound to. A certificate
// is proof enough to bind it again where the catalog was lost.
func (t *Trust) confirm(ctx context.Context, p *Parts, node string, key [32]byte, ends time.Time) error {
	for {
		r, index, err := load(ctx, p.Ledger, nodesKey+node, checkNodeRecord)
		switch {
		case err != nil:
			return err
		case index != 0 && !bytes.Equal(r.GetKeySha256(), key[:]):
			return ErrTaken
		case index != 0 && ends.Sub(time.Unix(0, r.GetEnds())) < t.cfg.Lifetime/10: // who renews all the time writes nothing
			return nil
		case index == 0:
			err = bind(ctx, p.Ledger, node, key[:], "", ends, 0)
		default:
			r.Ends = ends.UnixNano()
			err = putNode(ctx, p.Ledger, node, r, index)
		}
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
}

// nextEnd is when certificates run out that are made now.
func (t *Trust) nextEnd() time.Time { return time.Now().Add(t.cfg.Lifetime) }

// keepCopy brings the copy on disk up to date.
func (t *Trust) keepCopy(ctx context.Context, p *Parts) error {
	entries, err := p.Ledger.List(ctx, nodesKey)
	if err != nil {
		return fmt.Errorf("read which key is whose: %w", err)
	}
	if entries, err = t.dropOld(ctx, p, entries); err != nil {
		return err
	}
	var c trustpb.Copy
	for _, e := range entries {
		if r, err := parseRecord(e.Value, checkNodeRecord); err == nil {
			c.Nodes = append(c.Nodes, &trustpb.Copy_Node{Id: strings.TrimPrefix(e.Key, nodesKey), KeySha256: r.GetKeySha256()})
		}
	}
	slices.SortFunc(c.Nodes, func(x, y *trustpb.Copy_Node) int { return cmp.Compare(x.GetId(), y.GetId()) })
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&c)
	if err != nil {
		return fmt.Errorf("encode which key is whose: %w", err)
	}
	old, err := t.disk.read(copyFile)
	if err == nil && bytes.Equal(old, raw) {
		return nil
	}
	return t.disk.write(copyFile, raw)
}

// copied are the nodes and keys in the copy on disk. One that is damaged is none: certificates stand for themselves.
func (t *Trust) copied() ([]*trustpb.Copy_Node, error) {
	raw, err := t.disk.read(copyFile)
	if err != nil {
		return nil, err
	}
	c, err := parseRecord(raw, checkCopy)
	if err != nil {
		return nil, nil
	}
	return c.GetNodes(), nil
}

func checkCopy(c *trustpb.Copy) error {
	for _, n := range c.GetNodes() {
		if checkName(n.GetId()) != nil || len(n.GetKeySha256()) != 32 {
			return errRecord
		}
	}
	return nil
}

// confirmFromCopy is confirm by what the disk knows.
func (t *Trust) confirmFromCopy(node string, key [32]byte) error {
	nodes, err := t.copied()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.GetId() == node && !bytes.Equal(n.GetKeySha256(), key[:]) {
			return ErrTaken
		}
	}
	return nil
}

// restoreBindings writes the copy into a catalog that has lost them.
func (t *Trust) restoreBindings(ctx context.Context, p *Parts) error {
	nodes, err := t.copied()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := bind(ctx, p.Ledger, n.GetId(), n.GetKeySha256(), "", t.nextEnd(), 0); err != nil && !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return nil
}
