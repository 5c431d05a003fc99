package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

func newNode(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List the farm's nodes with their trust, shut one out, take one back",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("node: a command is needed") },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the nodes with their certificates, and those that were shut out",
			Args: cobra.NoArgs, RunE: work(o.nodes),
		},
		newRevoke(o),
		&cobra.Command{
			Use:   "readmit ID",
			Short: "Take the revocation of a node back",
			Args:  cobra.ExactArgs(1),
			RunE: workOn(func(ctx context.Context, id string) error {
				err := o.steer(ctx, "readmitting", fmt.Sprintf("node %s may join again", id),
					func(ctx context.Context, c *adminapi.Client) (adminapi.TrustStatus, error) {
						return c.ReadmitNode(ctx, id)
					})
				if err == nil {
					o.say("its certificate stays void: on its host stop p2pd, remove the folder trust in its data directory, and start it with --join and a new token")
				}
				return err
			}),
		},
	)
	return cmd
}

func newRevoke(o *options) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Shut a node out of the farm at once",
		Long: `p2pctl node revoke shuts a node out: within seconds no member talks to it any
more, it cannot join or renew its certificate, and the gossip gets a new key. It
is for a host that was stolen or broken into. The blobs that it has stay on it.

Who has the disk of a voter of the catalog, or of a node that was one within the
hour before it was taken, has the farm's CA: by the certificates that he makes
with it he is a member, under any id, until the farm is founded anew.`,
		Args: cobra.ExactArgs(1),
		RunE: workOn(func(ctx context.Context, id string) error { return o.revokeNode(ctx, id, force) }),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also an id of which no member is known")
	return cmd
}

// revokeNode shuts a node out, and says what that does not reach.
func (o *options) revokeNode(ctx context.Context, id string, force bool) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	known, voter := o.standing(ctx, client, id) // before: a node that is shut out is soon no member
	if !known && !force {
		return fmt.Errorf("no member of that id is known: see p2pctl node list; with --force %s is revoked all the same", id)
	}
	err = o.steer(ctx, "revoking", fmt.Sprintf("node %s is shut out; p2pctl node readmit takes it back", id),
		func(ctx context.Context, c *adminapi.Client) (adminapi.TrustStatus, error) {
			return c.RevokeNode(ctx, id)
		})
	if err != nil {
		return err
	}
	if voter {
		o.say("it is a voter of the catalog, whose disk has the farm's CA: certificates that are made with what is on it are good until the farm is founded anew")
	}
	return nil
}

// standing is whether the node that is asked knows a member of that id, one that was shut out included, and whether the
// member is a voter of the catalog where the farm has a CA. What cannot be found out is no reason for a warning, nor not to
// shut a node out.
func (o *options) standing(ctx context.Context, c *adminapi.Client, id string) (known, voter bool) {
	known = true
	if list, err := c.Members(ctx, o.timeout); err == nil {
		known = slices.ContainsFunc(list.Members, func(m adminapi.Member) bool { return m.ID == id })
	}
	s, err := c.Trust(ctx, o.timeout)
	if err != nil {
		return known, false
	}
	known = known || slices.Contains(s.Revoked, id)
	if s.Mode != "auto" {
		return known, false
	}
	status, err := c.Catalog(ctx, o.timeout)
	return known, err == nil && slices.ContainsFunc(status.Voters, func(v adminapi.Voter) bool { return v.Node == id })
}

func newKey(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Change the key of the farm's gossip",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return errors.New("key: a command is needed") },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "rotate",
		Short: "Give the gossip of the running farm a new key",
		Long: `p2pctl key rotate gives the gossip of the running farm a new key, in three steps
for each of which all members are waited for, or half a minute. No member is lost
by it. One that is switched off meanwhile gets the new key when it comes back.`,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error {
			return o.steer(ctx, "rotating", "the gossip has a new key",
				func(ctx context.Context, c *adminapi.Client) (adminapi.TrustStatus, error) { return c.RotateKey(ctx) })
		}),
	})
	return cmd
}

// steer changes the farm's trust and says what was done and how the trust is then.
func (o *options) steer(ctx context.Context, what, done string, do func(context.Context, *adminapi.Client) (adminapi.TrustStatus, error)) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	stop := o.progress(what, nil)
	s, err := do(ctx, client)
	stop()
	if err != nil {
		return hint(err, client, "")
	}
	if o.output == "json" {
		return writeJSON(o.stdout, s)
	}
	text := fmt.Sprintf("%s (epoch %d)", done, s.Epoch)
	if len(s.Revoked) > 0 {
		text += ". Shut out: " + strings.Join(s.Revoked, ", ")
	}
	_, err = io.WriteString(o.stdout, printable(text)+"\n")
	return err
}

// nodeList is the nodes with their trust, as a document.
type nodeList struct {
	SchemaVersion int         `json:"schema_version"`
	Nodes         []nodeTrust `json:"nodes"` // ordered by id
}

type nodeTrust struct {
	ID             string    `json:"id"`
	Zone           string    `json:"zone"`
	State          string    `json:"state"` // as gossip knows it; "" when it is no member
	Answered       bool      `json:"answered"`
	Revoked        bool      `json:"revoked"`
	Mode           string    `json:"mode"`
	Epoch          uint64    `json:"epoch"`
	CertificateEnd time.Time `json:"certificate_end,omitzero"`
}

func (o *options) nodes(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	s, err := client.Status(ctx, o.timeout)
	if err != nil {
		return err
	}
	list := nodesOf(s)
	if o.output == "json" {
		return writeJSON(o.stdout, list)
	}
	_, err = io.WriteString(o.stdout, nodesText(list, s.Self))
	return err
}

func nodesOf(s adminapi.FarmStatus) nodeList {
	var revoked []string
	if s.Trust != nil {
		revoked = s.Trust.Revoked
	}
	list := nodeList{SchemaVersion: adminapi.SchemaVersion, Nodes: []nodeTrust{}}
	for _, m := range s.Members {
		n := nodeTrust{ID: m.ID, Zone: m.Zone, State: m.State, Answered: m.Answered, Revoked: slices.Contains(revoked, m.ID)}
		if m.Node != nil {
			n.Mode = m.Node.Trust
			if p := m.Node.TrustPart; p != nil {
				n.Mode, n.Epoch, n.CertificateEnd = p.Mode, p.Epoch, p.CertificateEnd
			}
		}
		list.Nodes = append(list.Nodes, n)
	}
	for _, id := range revoked {
		if !slices.ContainsFunc(list.Nodes, func(n nodeTrust) bool { return n.ID == id }) {
			list.Nodes = append(list.Nodes, nodeTrust{ID: id, Revoked: true})
		}
	}
	slices.SortFunc(list.Nodes, func(a, b nodeTrust) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func nodesText(list nodeList, self string) string {
	t := newTable("HOST", "ZONE", "STATE", "TRUST", ">EPOCH", "CERTIFICATE ENDS")
	for _, n := range list.Nodes {
		id, state, epoch := n.ID, n.State, ""
		if id == self {
			id += " (asked)"
		}
		if n.Revoked {
			state = strings.TrimPrefix(state+", revoked", ", ")
		}
		if n.Epoch > 0 {
			epoch = strconv.FormatUint(n.Epoch, 10)
		}
		t.add(id, n.Zone, state, n.Mode, epoch, moment(n.CertificateEnd))
	}
	return t.String()
}
