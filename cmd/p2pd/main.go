// Command p2pd is one node of a Pullonce farm.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/blobstore"
	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/internal/version"
	"github.com/pullonce/pullonce/node"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// gcPercent is the heap's growth, in percent of what is in use, after which the garbage collector runs.
const gcPercent = 30

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintln(stderr, "p2pd:", err)
	if _, bad := errors.AsType[*config.Error](err); bad || errors.Is(err, errUsage) || errors.Is(err, node.ErrTrustSetup) {
		return exitUsage
	}
	return exitFailed
}

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("see p2pd --help")

func command(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "p2pd",
		Short: "A node of a peer-to-peer image layer cache",
		Long:  "p2pd serves the Registry v2 API to this host's container engine and shares layers with the other nodes of its farm.",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return fmt.Errorf("%w: %w", err, errUsage)
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(config.FromProcess().FromFlags(cmd.Flags()))
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, stdout, stderr)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", err, errUsage) })
	config.AddFlags(cmd.Flags())
	return cmd
}

// serve runs the node until ctx is done.
func serve(ctx context.Context, cfg config.Config, stdout, stderr io.Writer) error {
	log := newLogger(cfg.Log, stderr)
	hangups := make(chan os.Signal, 1) // one that comes during the start holds after it
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	nodeConfig, err := assemble(cfg)
	if err != nil {
		return err
	}
	doors, err := openDoors(cfg, log)
	if err != nil {
		return err
	}
	doors.protect(&nodeConfig.Registry)
	n, err := node.Open(ctx, nodeConfig, log)
	if err != nil {
		if locked, ok := errors.AsType[*blobstore.LockedError](err); ok {
			return fmt.Errorf("another p2pd (pid %d) uses the data directory %s", locked.PID, locked.Dir)
		}
		return allBusy(nodeConfig, err)
	}
	greet(stdout, n, cfg)
	// Most of the heap is buffers that are used again: what the collector would let grow beside them is memory that the
	// host's workload could have.
	debug.SetGCPercent(gcPercent)
	reload := func() {
		n.Reload()
		doors.reload()
	}
	credentials := &reloader{files: append(credentialFiles(cfg), doors.files...), hangups: hangups, reload: reload, log: log}
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { credentials.run(watching) })
	defer watcher.Wait()
	defer stop()
	return allBusy(nodeConfig, n.Run(ctx))
}

// allBusy makes of an error about one address one about all addresses that are in use. The node is closed by then.
func allBusy(cfg node.Config, err error) error {
	if _, ok := errors.AsType[*node.AddressError](err); !ok {
		return err
	}
	if busy := cfg.Busy(); busy != nil {
		return busy
	}
	return err
}

// newLogger writes for a person when it writes to a terminal, and else for programs.
func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" || cfg.Format == "auto" && !isTerminal(w) {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
