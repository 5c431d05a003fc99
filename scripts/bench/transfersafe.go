package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pullonce/pullonce/internal/certs"
	"github.com/pullonce/pullonce/internal/images"
)

// A safeProcess is a process of safeCommand.
type safeProcess struct {
	cmd   *exec.Cmd
	in    *json.Encoder
	close func() error // of its standard input, which ends it
	out   *json.Decoder
	place safePlace
}

func startSafe(ctx context.Context, cfg safeConfig) (*safeProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, safeCommand)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Node, err)
	}
	p := &safeProcess{cmd: cmd, in: json.NewEncoder(stdin), close: stdin.Close, out: json.NewDecoder(stdout)}
	var ready safeReply
	if err := errors.Join(p.in.Encode(cfg), p.out.Decode(&ready)); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Node, errors.Join(err, p.end()))
	}
	p.place = ready.Place
	return p, nil
}

func (p *safeProcess) pid() int { return p.cmd.Process.Pid }

func (p *safeProcess) end() error { return errors.Join(p.close(), p.cmd.Wait()) }

func (p *safeProcess) do(what string) (time.Duration, error) {
	var reply safeReply
	if err := errors.Join(p.in.Encode(safeOrder{what}), p.out.Decode(&reply)); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if reply.Error != "" {
		return 0, fmt.Errorf("%s: %s", what, reply.Error)
	}
	return reply.Took, nil
}

// cost has p do something, and is what that cost these processes in CPU-s.
func (p *safeProcess) cost(ctx context.Context, what string, pids ...int) (seconds float64, took time.Duration, err error) {
	before, err := quiet(ctx, pids...)
	if err != nil {
		return 0, 0, err
	}
	if took, err = p.do(what); err != nil {
		return 0, 0, err
	}
	after, err := cpuOf(pids...)
	return (after - before).Seconds(), took, err
}

// measureTransferTLS compares what a blob costs two nodes over their TLS with HTTPS, in turn: its pieces alone with a
// client that throws the bytes away, and a whole fetch, which checks and writes them, with a client that does both.
func measureTransferTLS(ctx context.Context, b *bench, s *sheet) (err error) {
	image, err := b.image(120, b.size(gib))
	if err != nil {
		return err
	}
	dir, err := b.folder("safe")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(dir)) }()
	authority, err := certs.New()
	if err != nil {
		return err
	}
	key, err := authority.Key()
	if err != nil {
		return err
	}
	blob := image.Layers[0]
	cfg := safeConfig{Node: holderID, Dir: dir, Key: key, Blob: blob.Path, Digest: blob.Digest.String(), Size: blob.Size}
	holder, err := startSafe(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, holder.end()) }()
	if _, err := holder.do("engine"); err != nil {
		return fmt.Errorf("fill the holder: %w", err)
	}
	cfg.Node, cfg.Blob, cfg.Holder = takerID, "", holder.place
	lines := newSafeLines(s)
	for range b.pairs() {
		if err := lines.pair(ctx, b, holder, cfg, blob); err != nil {
			return err
		}
	}
	return nil
}

// safeLines are the lines of the figure.
type safeLines struct {
	ratio, kept, pieces, https, node, httpsKept, hash, write, speed func(float64)
}

func newSafeLines(s *sheet) safeLines {
	return safeLines{
		ratio:     s.line("pieces from node to node ÷ HTTPS ServeContent, both ends", "", atMost(1.25), ""),
		kept:      s.line("the same, checking and disk write included at both", "", nil, ""),
		pieces:    s.line("pieces from node to node, thrown away", "CPU-s/GiB", nil, ""),
		https:     s.line("HTTPS ServeContent, thrown away", "CPU-s/GiB", nil, "2.0 to 2.2"),
		node:      s.line("node to node, checked and written", "CPU-s/GiB", nil, ""),
		httpsKept: s.line("HTTPS ServeContent, checked and written", "CPU-s/GiB", nil, ""),
		hash:      s.line("checking by itself: SHA-256", "CPU-s/GiB", nil, "0.6 to 0.8"),
		write:     s.line("writing by itself", "CPU-s/GiB", nil, ""),
		speed:     s.line("node to node, until it is safe on the receiver's disk", "GB/s", nil, ""),
	}
}

// pair measures all ways once, with a taker that has nothing.
func (l safeLines) pair(ctx context.Context, b *bench, holder *safeProcess, cfg safeConfig, blob images.Blob) (err error) {
	if cfg.Dir, err = b.folder("taker"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drop(cfg.Dir)) }()
	taker, err := startSafe(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, taker.end()) }()
	if err := b.memory.hold(ctx); err != nil {
		return err
	}
	cost := map[string]float64{}
	for _, what := range []string{"hash", "write", "https", "pieces", "https, kept", "engine"} {
		seconds, took, err := taker.cost(ctx, what, holder.pid(), taker.pid())
		if err != nil {
			return err
		}
		cost[what] = seconds / gibs(blob.Size)
		if what == "engine" {
			l.speed(perSecond(blob.Size, took))
		}
	}
	l.ratio(cost["pieces"] / cost["https"])
	l.kept(cost["engine"] / cost["https, kept"])
	l.pieces(cost["pieces"])
	l.https(cost["https"])
	l.node(cost["engine"])
	l.httpsKept(cost["https, kept"])
	l.hash(cost["hash"])
	l.write(cost["write"])
	return nil
}
