package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pullonce/pullonce/catalog"
)

// A voter is a process of voterCommand.
type voter struct {
	cmd   *exec.Cmd
	in    *json.Encoder
	close func() error // of its standard input, which ends it
	out   *json.Decoder
	self  voterPeer
}

// startVoter starts a process that waits for its configuration.
func startVoter(ctx context.Context, node string) (*voter, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, voterCommand)
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
		return nil, fmt.Errorf("start a voter: %w", err)
	}
	v := &voter{cmd, json.NewEncoder(stdin), stdin.Close, json.NewDecoder(stdout), voterPeer{}}
	if err := v.out.Decode(&v.self); err != nil {
		v.kill()
		return nil, fmt.Errorf("start a voter: %w", err)
	}
	v.self.Node = node
	return v, nil
}

func (v *voter) pid() int { return v.cmd.Process.Pid }

func (v *voter) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait() // it was killed
}

// end ends it in peace.
func (v *voter) end() error { return errors.Join(v.close(), v.cmd.Wait()) }

// ask has it carry out an order.
func (v *voter) ask(o voterOrder) (voterReply, error) {
	var reply voterReply
	if err := v.in.Encode(o); err != nil {
		return reply, fmt.Errorf("ask voter %s: %w", v.self.Node, err)
	}
	if err := v.out.Decode(&reply); err != nil {
		return reply, fmt.Errorf("ask voter %s: %w", v.self.Node, errors.Join(err, io.ErrUnexpectedEOF))
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("ask voter %s to %s: %s", v.self.Node, o.Do, reply.Error)
	}
	return reply, nil
}

// voters are nodes with one catalog.
type voters []*voter

// startVoters starts nodes in folders of dir, and waits until the catalog has as many voters as it should.
func startVoters(ctx context.Context, dir string, nodes int, delay time.Duration) (all voters, err error) {
	defer func() {
		if err != nil {
			all.kill()
		}
	}()
	cfg := voterConfig{SyncDelay: delay}
	for i := range nodes {
		v, err := startVoter(ctx, fmt.Sprint("n", i))
		if err != nil {
			return all, err
		}
		all = append(all, v)
		cfg.Nodes = append(cfg.Nodes, v.self)
	}
	for _, v := range all {
		cfg.Node, cfg.Dir = v.self.Node, filepath.Join(dir, v.self.Node)
		if err := v.in.Encode(cfg); err != nil {
			return all, err
		}
	}
	return all, all.settle(ctx, min(nodes, 3))
}

// settleTime is how long nodes may take to found a catalog: the only seed looks out for another one first.
const settleTime = time.Minute

func (all voters) settle(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		settled := true
		for _, v := range all {
			r, err := v.ask(voterOrder{Do: "status"})
			if err != nil {
				return err
			}
			settled = settled && r.Status.Leader != "" && len(r.Status.Voters) == want && r.Status.State != catalog.WaitingForCatalog
		}
		if settled {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no catalog of %d voters: %w", want, ctx.Err())
		}
	}
}

// leader is the node that leads, the others come in their order after it.
func (all voters) leader() (*voter, voters, error) {
	r, err := all[0].ask(voterOrder{Do: "status"})
	if err != nil {
		return nil, nil, err
	}
	var leads *voter
	var others voters
	for _, v := range all {
		if v.self.Node == r.Status.Leader {
			leads = v
		} else {
			others = append(others, v)
		}
	}
	if leads == nil {
		return nil, nil, errors.New("nobody leads")
	}
	return leads, others, nil
}

func (all voters) end() error {
	var errs []error
	for _, v := range all {
		errs = append(errs, v.end())
	}
	return errors.Join(errs...)
}

func (all voters) kill() {
	for _, v := range all {
		v.kill()
	}
}
