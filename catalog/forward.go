package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pullonce/pullonce/internal/peerid"
	catalogpb "github.com/pullonce/pullonce/proto/catalog"
)

// retryPause is the wait between two looks for a leader.
const retryPause = 50 * time.Millisecond

// Apply has the leader append a command, wherever the leader is, and waits until it is applied. A command that was
// refused has its reason in Result.Err. The error is ErrRefused, what the command's check says, or, within
// Config.Patience, ErrNoQuorum; when it is ErrUncertain as well, the command may have been applied or may yet be.
func (c *Catalog) Apply(ctx context.Context, command Command) (Result, error) {
	if err := command.check(); err != nil {
		return Result{}, err
	}
	return c.applyWithin(ctx, command, kindWrite, c.cfg.Patience)
}

func (c *Catalog) applyWithin(ctx context.Context, command Command, kind string, patience time.Duration) (Result, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var result Result
	var raw []byte
	err := c.atLeader(ctx, func(r *replica) error {
		var err error
		result, err = c.append(ctx, r, command)
		return err
	}, func(client catalogpb.CatalogClient, catalog string) (*catalogpb.Detour, error) {
		if raw == nil {
			raw = command.marshal()
		}
		reply, err := client.Apply(ctx, &catalogpb.ApplyRequest{Catalog: catalog, Command: raw})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
		}
		if reply.GetDetour() == nil {
			result, err = unmarshalResult(reply.GetResult())
		}
		return reply.GetDetour(), err
	})
	c.meters.asked(kind, began, err)
	return result, err
}

// append is the leader's part of Apply, unless its catalog takes nothing now.
func (c *Catalog) append(ctx context.Context, r *replica, command Command) (Result, error) {
	c.mu.Lock()
	var err error
	switch {
	case c.refusing:
		err = ErrRefused
	case c.frozen:
		err = errNotLeader
	default:
		c.appending++
	}
	c.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.appending--
	}()
	return r.apply(ctx, command)
}

// atLeader does something at the leader: here, or by a call to the node that leads. It goes after the leader until ctx
// ends, and not at all while that is known to be of no use. What is uncertain is not done twice.
func (c *Catalog) atLeader(ctx context.Context, here func(*replica) error, there func(catalogpb.CatalogClient, string) (*catalogpb.Detour, error)) error {
	found, err := c.seek()
	if err != nil {
		return err
	}
	err = c.goAfter(ctx, here, there)
	found(err)
	return err
}

func (c *Catalog) goAfter(ctx context.Context, here func(*replica) error, there func(catalogpb.CatalogClient, string) (*catalogpb.Detour, error)) error {
	var last error
	var hint string
	dead := map[string]bool{} // those that did not answer in this round
	for {
		if r := c.current(); r != nil && r.leads() {
			if err := here(r); !errors.Is(err, errNotLeader) {
				return err
			}
		}
		node := c.nextToAsk(hint, dead)
		hint = ""
		if node == "" {
			clear(dead)
		} else {
			detour, err := c.askLeader(node, there)
			if !errors.Is(err, errNotLeader) {
				return err
			}
			dead[node] = true
			last = err
			hint = detour.GetLeader()
			if hint != "" && !dead[hint] {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return noQuorum(ctx, last)
		case <-time.After(retryPause):
		}
	}
}

func noQuorum(ctx context.Context, last error) error {
	if last == nil {
		last = context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", errNoLeader, last)
}

// nextToAsk is the hint, the leader that is known, or one of the other voters.
func (c *Catalog) nextToAsk(hint string, dead map[string]bool) string {
	rt := c.route()
	r := c.current()
	for _, node := range slices.Concat([]string{hint, rt.leader}, rt.voters()) {
		if node != "" && node != c.cfg.Node && !dead[node] && (r == nil || node == hint || node == rt.leader) {
			return node
		}
	}
	return ""
}

// askLeader calls node. The error is errNotLeader when nothing was done there.
func (c *Catalog) askLeader(node string, there func(catalogpb.CatalogClient, string) (*catalogpb.Detour, error)) (*catalogpb.Detour, error) {
	client, err := c.client(node)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLeader, err)
	}
	detour, err := there(client, c.identity().Catalog)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", node, err)
	case detour == nil:
		return nil, nil
	case detour.GetAppended():
		return nil, fmt.Errorf("ask %s: %w: %s", node, ErrUncertain, detour.GetRefusal())
	case detour.GetRefused():
		return nil, fmt.Errorf("ask %s: %w", node, ErrRefused)
	case detour.GetLeader() == "" && detour.GetRefusal() != "":
		return detour, fmt.Errorf("%w: %s: %s", errNotLeader, node, detour.GetRefusal())
	}
	return detour, fmt.Errorf("%w: %s", errNotLeader, node)
}

// detourOf says on the wire why nothing, or perhaps something, was done here.
func (c *Catalog) detourOf(err error) *catalogpb.Detour {
	d := &catalogpb.Detour{
		Leader: c.route().leader, Refusal: err.Error(),
		Appended: errors.Is(err, ErrUncertain), Refused: errors.Is(err, ErrRefused),
	}
	if d.GetLeader() == c.cfg.Node {
		d.Leader = ""
	}
	return d
}

// leading is the replica of catalog, if it leads here.
func (c *Catalog) leading(catalog string) (*replica, error) {
	r := c.current()
	if r == nil || r.catalog != catalog || !r.leads() {
		return nil, errNotLeader
	}
	return r, nil
}

// Apply implements catalogpb.CatalogServer.
func (s *server) Apply(ctx context.Context, p *catalogpb.ApplyRequest) (*catalogpb.ApplyReply, error) {
	c := s.catalog
	result, err := c.applyHere(ctx, p.GetCatalog(), p.GetCommand())
	if err != nil {
		return &catalogpb.ApplyReply{Detour: c.detourOf(err)}, nil
	}
	return &catalogpb.ApplyReply{Result: result.marshal()}, nil
}

func (c *Catalog) applyHere(ctx context.Context, catalog string, raw []byte) (Result, error) {
	r, err := c.leading(catalog)
	if err != nil {
		return Result{}, err
	}
	command, err := unmarshalCommand(raw)
	if err != nil {
		return Result{Err: err}, nil
	}
	if node, leases := lessee(command); leases {
		if err := peerid.Check(ctx, node); err != nil {
			return Result{Err: err}, nil
		}
	}
	return c.append(ctx, r, command)
}

// lessee is the node that a command takes or gives back a lease for, which does so itself.
func lessee(c Command) (node string, leases bool) {
	switch do := c.Do.(type) {
	case TakeLease:
		return do.Node, true
	case ReleaseLease:
		return do.Node, true
	}
	return "", false
}

// Read is a view of this node's own replica: with all that was answered anywhere before the call, or, when stale will
// do, as far as the replica is. The error is ErrNoReplica on a node that keeps none, or ErrNoQuorum.
func (c *Catalog) Read(ctx context.Context, stale bool) (View, error) {
	r := c.current()
	if r == nil {
		return View{}, ErrNoReplica
	}
	if stale {
		return r.machine.view(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Patience)
	defer cancel()
	index, err := c.readIndex(ctx)
	if err != nil {
		return View{}, err
	}
	if err := r.reach(ctx, index); err != nil {
		return View{}, err
	}
	return r.machine.view(), nil
}

// readIndex asks the leader what a reader must have seen.
func (c *Catalog) readIndex(ctx context.Context) (uint64, error) {
	began := time.Now()
	var index uint64
	err := c.atLeader(ctx, func(r *replica) (err error) {
		index, err = r.readIndex(ctx)
		return err
	}, func(client catalogpb.CatalogClient, catalog string) (*catalogpb.Detour, error) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Ask)
		defer cancel()
		reply, err := client.ReadIndex(ctx, &catalogpb.ReadIndexRequest{Catalog: catalog})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotLeader, err) // asking again does no harm
		}
		index = reply.GetIndex()
		return reply.GetDetour(), nil
	})
	c.meters.asked(kindRead, began, err)
	return index, err
}

// ReadIndex implements catalogpb.CatalogServer.
func (s *server) ReadIndex(ctx context.Context, p *catalogpb.ReadIndexRequest) (*catalogpb.ReadIndexReply, error) {
	r, err := s.catalog.leading(p.GetCatalog())
	var index uint64
	if err == nil {
		index, err = r.readIndex(ctx)
	}
	if err != nil {
		return &catalogpb.ReadIndexReply{Detour: s.catalog.detourOf(err)}, nil
	}
	return &catalogpb.ReadIndexReply{Index: index}, nil
}

// confirm asks the voters for their terms. A leader of a later term needs the votes of a majority, and a voter takes on
// the term before it votes; so while a majority is in this term or an earlier one, nobody else has led until now. This
// does not lean on clocks, nor on answers that were under way before the question.
func (c *Catalog) confirm(ctx context.Context, r *replica, term uint64) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var others []raft.Server
	voters, agree := 0, 0
	for _, s := range r.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(r.name) {
			agree++
		} else {
			others = append(others, s)
		}
	}
	answers := make(chan bool, len(others))
	for _, s := range others {
		if agree > voters/2 || !r.spawn(func() { answers <- c.confirmOne(ctx, r.catalog, s, term) }) {
			break
		}
	}
	for asked := 0; agree <= voters/2 && asked < len(others); asked++ {
		select {
		case yes := <-answers:
			agree += b2i(yes)
		case <-ctx.Done():
			return false
		}
	}
	return agree > voters/2
}

func (c *Catalog) confirmOne(ctx context.Context, catalog string, s raft.Server, term uint64) bool {
	name, node := readPlace(s.Address)
	client, err := c.client(node)
	if err != nil {
		return false
	}
	reply, err := client.Confirm(ctx, &catalogpb.ConfirmRequest{Catalog: catalog, Raft: name})
	return err == nil && reply.GetRefusal() == "" && reply.GetTerm() <= term
}
