package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

// tokenMark is what the text of a whole token begins with.
const tokenMark = "p2p1."

func newToken(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens with which new nodes join the farm",
		Long: `A join token lets a host into the farm: it carries the fingerprint of the farm's
CA, by which the new node knows the farm, and a secret, by which the farm knows
the node. Once it has joined the node needs it no more.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return errors.New("token: a command is needed") },
	}
	cmd.AddCommand(newTokenCreate(o), &cobra.Command{
		Use: "list", Short: "List the tokens that are good still", Args: cobra.NoArgs, RunE: work(o.tokens),
	}, newTokenRevoke(o))
	return cmd
}

func newTokenCreate(o *options) *cobra.Command {
	var ttl time.Duration
	var uses int
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token, and write it to stdout",
		Long: `p2pctl token create writes a new join token to stdout, as one line, and what to do
with it to stderr. It is shown this once. Whoever has it can join the farm until
it expires: give it to the new host in a file (p2pd --token-file), over a channel
that others cannot read.`,
		Args: cobra.NoArgs,
		RunE: work(func(ctx context.Context) error { return o.createToken(ctx, ttl, uses) }),
	}
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good")
	cmd.Flags().IntVar(&uses, "uses", 1, "how many nodes may use it")
	return cmd
}

func (o *options) createToken(ctx context.Context, ttl time.Duration, uses int) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	token, err := client.CreateToken(ctx, ttl, uses)
	if err != nil {
		return hint(err, client, "")
	}
	if o.output == "json" {
		return writeJSON(o.stdout, token)
	}
	if _, err := fmt.Fprintln(o.stdout, printable(token.Token)); err != nil {
		return err
	}
	join := "HOST"
	if node, err := client.Node(ctx, o.timeout); err == nil && node.Addresses.Gossip != "" {
		join = node.Addresses.Gossip
	}
	o.say("token %s is good until %s, for %s. On a new host:", token.ID, moment(token.Expires), plural(token.Uses, "node"))
	o.say("  p2pd --join %s --token-file FILE", join)
	return nil
}

func (o *options) tokens(ctx context.Context) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	list, err := client.Tokens(ctx, o.timeout)
	if err != nil {
		return err
	}
	return o.showTokens(list)
}

func (o *options) showTokens(list adminapi.TokenList) error {
	if o.output == "json" {
		return writeJSON(o.stdout, list)
	}
	if len(list.Tokens) == 0 {
		_, err := io.WriteString(o.stdout, "no tokens\n")
		return err
	}
	t := newTable("TOKEN", "CREATED", "EXPIRES", ">USED", ">OF")
	for _, token := range list.Tokens {
		t.add(token.ID, moment(token.Created), moment(token.Expires), strconv.Itoa(token.Used), strconv.Itoa(token.Uses))
	}
	_, err := io.WriteString(o.stdout, t.String())
	return err
}

func newTokenRevoke(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a token of no use; nodes that have joined with it stay",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && strings.HasPrefix(args[0], tokenMark) { // which is not to be shown
				return errors.New("that is a token: give its id, as p2pctl token list shows it")
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: workOn(func(ctx context.Context, id string) error {
			client, err := o.client()
			if err != nil {
				return err
			}
			list, err := client.DropToken(ctx, id)
			if err != nil {
				return hint(err, client, "")
			}
			return o.showTokens(list)
		}),
	}
}

// moment is a time for people.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
