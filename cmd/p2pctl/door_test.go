package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pullonce/pullonce/adminapi"
)

// door DIR SOCKET serves the admin API of a node on a unix socket until the story ends; door DIR http does on loopback,
// and names it in P2PCTL_ADDRESS; its admin token is what DIR/admin-token says, if that is there. DIR says what the node knows, see scripted.
func door(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: door DIR SOCKET|http")
	}
	cfg, network, address := adminapi.Default(), "unix", ts.MkAbs(args[1])
	if args[1] == "http" {
		network, address, cfg.Socket = "tcp", "127.0.0.1:0", "/run/p2pd/p2pd.sock"
		if token, err := os.ReadFile(filepath.Join(ts.MkAbs(args[0]), "admin-token")); err == nil {
			cfg.Token = strings.TrimSpace(string(token))
			ts.Check(cfg.Validate())
		}
	} else {
		cfg.UnixSocket = true
	}
	listener, err := net.Listen(network, address)
	ts.Check(err)
	if network == "tcp" {
		ts.Setenv(addressEnv, "http://"+listener.Addr().String())
	}
	log := slog.New(slog.DiscardHandler)
	server := adminapi.NewServer(adminapi.New(cfg, scripted{ts.MkAbs(args[0])}, nil, log), log)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	ts.Defer(func() {
		_ = server.Close()
		<-served
	})
}

// scripted is a node that knows what the files of a folder say: catalog.json, recovered.json, collected.json, trust.json,
// tokens.json, token.json, node.json, members.json, ca.pem and backup. A file quorum has it refuse to replace the catalog, no-quorum to do what needs one, cut to end a backup early, unknown to know no
// id. It writes done, and restored.
type scripted struct{ dir string }

func (s scripted) Node(context.Context) (adminapi.NodeStatus, error) {
	n := adminapi.NodeStatus{ID: "alpha-1f", Farm: "lab"}
	if !s.has("node.json") {
		return n, nil
	}
	return n, s.read("node.json", &n)
}

func (s scripted) Members(context.Context) (members []adminapi.Member, err error) {
	if s.has("members.json") {
		err = s.read("members.json", &members)
	}
	return members, err
}

func (s scripted) Ask(context.Context, string) (adminapi.NodeStatus, error) {
	return adminapi.NodeStatus{}, errors.New("nobody is there")
}
func (s scripted) Ready() error { return nil }

func (s scripted) has(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

func (s scripted) read(name string, v any) error {
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	return err
}

// done notes what was done, unless the catalog has a quorum that is not to be replaced.
func (s scripted) done(force bool, what string, args ...any) error {
	if s.has("quorum") && !force {
		return adminapi.ErrQuorum
	}
	return os.WriteFile(filepath.Join(s.dir, "done"), fmt.Appendf(nil, what+"\n", args...), 0o600)
}

func (s scripted) CatalogStatus(context.Context) (status adminapi.CatalogStatus, err error) {
	return status, s.read("catalog.json", &status)
}

func (s scripted) Backup(_ context.Context, w io.Writer) error {
	if s.has("no-quorum") {
		return fmt.Errorf("%w: no leader is known", adminapi.ErrNoQuorum)
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, "backup"))
	if err != nil {
		return err
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if s.has("cut") {
		return errors.New("the disk went away")
	}
	return nil
}

func (s scripted) Restore(_ context.Context, backup io.Reader, force bool) error {
	raw, err := io.ReadAll(backup)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(raw), "p2pcatl") {
		return fmt.Errorf("restore catalog: %w", adminapi.ErrBadBackup)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "restored"), raw, 0o600); err != nil {
		return err
	}
	return s.done(force, "restore %v", force)
}

func (s scripted) Recover(_ context.Context, force bool) (r adminapi.Recovered, err error) {
	return r, errors.Join(s.done(force, "recover %v", force), s.read("recovered.json", &r))
}

func (s scripted) Bootstrap(context.Context) error { return s.done(false, "bootstrap") }
func (s scripted) Leave(context.Context) error     { return s.done(true, "leave") }

func (s scripted) Collect(_ context.Context, dryRun bool) (c adminapi.Collected, err error) {
	if s.has("no-quorum") {
		return c, adminapi.ErrNoQuorum
	}
	return c, errors.Join(s.done(true, "collect %v", dryRun), s.read("collected.json", &c))
}

func (s scripted) TrustStatus(context.Context) (p adminapi.TrustPart, err error) {
	return p, s.read("trust.json", &p)
}

func (s scripted) FarmCA(context.Context) (string, error) {
	if s.has("files") {
		return "", adminapi.ErrTrustMode
	}
	pem, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	return string(pem), err
}

func (s scripted) CreateToken(_ context.Context, ttl time.Duration, uses int) (t adminapi.NewToken, err error) {
	return t, errors.Join(s.steer("token %v %d", ttl, uses), s.read("token.json", &t))
}

func (s scripted) Tokens(context.Context) (tokens []adminapi.TokenInfo, err error) {
	return tokens, s.read("tokens.json", &tokens)
}

func (s scripted) DropToken(_ context.Context, id string) error  { return s.steer("drop %s", id) }
func (s scripted) RevokeNode(_ context.Context, id string) error { return s.steer("revoke %s", id) }

func (s scripted) ReadmitNode(_ context.Context, id string) error { return s.steer("readmit %s", id) }
func (s scripted) RotateKey(context.Context) error                { return s.steer("rotate") }

func (s scripted) steer(what string, args ...any) error {
	switch {
	case s.has("no-quorum"):
		return adminapi.ErrNoQuorum
	case s.has("unknown"):
		return fmt.Errorf("%w: no such id", adminapi.ErrUnknown)
	case s.has("files"):
		return fmt.Errorf("%w: trust.mode is files", adminapi.ErrTrustMode)
	}
	return s.done(true, what, args...)
}
