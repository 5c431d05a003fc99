package transfer

import (
	"fmt"
	"slices"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
)

// errNobody says that no member has a blob that has no upstream.
var errNobody = fmt.Errorf("no member that answers has the blob: %w", oci.ErrUnavailable)

// maxIntroduced is how many holders a node is told of beside its meeting point.
const maxIntroduced = 3

// isHosted tells whether a repository has no upstream.
func (e *Engine) isHosted(repo oci.Repository) bool {
	return e.hosted != nil && repo != (oci.Repository{}) && e.hosted(repo)
}

// isHosted tells whether the blob is fetched through a repository that has no upstream.
func (t *task) isHosted() bool { return t.e.isHosted(t.repository()) }

// repositoryOf is the repository through which a node that registers asks.
func repositoryOf(q *transferpb.RegisterRequest) oci.Repository {
	return oci.Repository{Upstream: q.GetUpstream(), Path: q.GetRepository()}
}

// introductions are holders of a hosted blob that a node which registers is told of, beside the one that it is sent to:
// nobody has to hand out all of it alone.
func (e *Engine) introductions(repo oci.Repository, d oci.Digest, to string, q *transferpb.RegisterRequest) []*transferpb.Node {
	if !e.isHosted(repo) {
		return nil
	}
	return e.othersOf(d, to, slices.Concat(q.GetLost(), q.GetTried(), []string{q.GetNode().GetId()}))
}

// othersOf are known live holders of a blob but one and those that are passed over.
func (e *Engine) othersOf(d oci.Digest, but string, past []string) []*transferpb.Node {
	e.holders.mu.Lock()
	ids := slices.Clone(e.holders.byDigest[d])
	e.holders.mu.Unlock()
	var out []*transferpb.Node
	for _, id := range ids {
		if id == but || id == e.cfg.Self.ID || slices.Contains(past, id) || len(out) == maxIntroduced {
			continue
		}
		if n, ok := e.directory.Lookup(id); ok {
			out = append(out, &transferpb.Node{Id: n.ID, Address: n.Address, Zone: n.Zone})
		}
	}
	return out
}

// whoHas is a node that has said that it has the whole blob, "" when none has. Of a hosted blob the others are met, too.
func (t *task) whoHas(found []finding) string {
	holder := ""
	var others []*transferpb.Node
	for _, f := range found {
		switch {
		case !f.holding.GetWhole():
		case holder == "":
			holder = f.node.ID
		case len(others) < maxIntroduced:
			others = append(others, &transferpb.Node{Id: f.node.ID, Address: f.node.Address, Zone: f.node.Zone})
		}
	}
	t.introduce(others)
	return holder
}

// introduce keeps holders that are to be met once there is a list.
func (t *task) introduce(nodes []*transferpb.Node) {
	if len(nodes) == 0 || !t.isHosted() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders = nodes[:min(len(nodes), maxIntroduced)]
}

// introduced are the holders that were kept, once there is a list.
func (t *task) introduced() []*transferpb.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		return nil
	}
	nodes := t.holders
	t.holders = nil
	return nodes
}
