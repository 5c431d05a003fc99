package testfarm_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pullonce/pullonce/oci"
	transferpb "github.com/pullonce/pullonce/proto/transfer"
	"github.com/pullonce/pullonce/transfer"
)

// A clerk is a node that gives out one manifest, whatever it is asked for.
type clerk struct {
	transferpb.UnimplementedTransferServer

	id    string
	raw   []byte
	asked atomic.Int64
}

func (c *clerk) Ping(context.Context, *transferpb.PingRequest) (*transferpb.PingReply, error) {
	return &transferpb.PingReply{Node: c.id}, nil
}

func (c *clerk) Document(_ context.Context, q *transferpb.DocumentRequest) (*transferpb.DocumentReply, error) {
	c.asked.Add(1)
	return &transferpb.DocumentReply{Digest: q.GetReference(), MediaType: oci.MediaTypeOCIManifest, Body: c.raw}, nil
}

// open opens the clerk's peer door.
func (c *clerk) open(t *testing.T) transfer.Node {
	t.Helper()
	return transfer.Node{ID: c.id, Boot: "boot", Address: onStage(t, c)}
}

func TestAPeerThatGivesAWrongManifestIsBlamedAndNotAskedAgain(t *testing.T) {
	t.Parallel()
	liar, good := &clerk{id: "liar", raw: []byte(`{"forged":true}`)}, &clerk{id: "good"}
	nodes := []transfer.Node{liar.open(t), good.open(t)}
	node := live(t, "honest", &shelf{}, nodes...)
	view := directoryOf("honest", nodes...).view
	raw, d := []byte("{}"), oci.Digest{}
	for view.Owner(d) != "liar" || view.OwnerWithout(d, "liar") != "good" {
		raw = append(raw, ' ')
		d = oci.FromBytes(oci.SHA256, raw)
	}
	good.raw = raw
	q := transfer.Question{Kind: transfer.Manifest, Repository: oci.Repository{Upstream: oci.DockerHub, Path: "library/app"}, Reference: d.String()}
	for range 3 {
		a, err := node.Ask(t.Context(), d.String(), q, func(context.Context) (transfer.Answer, error) {
			return transfer.Answer{}, errors.New("the node that asks owns nothing here")
		})
		if err != nil || !bytes.Equal(a.Body, raw) {
			t.Fatalf("Ask = %q, %v; want the manifest from who does not lie", a.Body, err)
		}
	}
	if liar.asked.Load() != 1 || good.asked.Load() != 3 {
		t.Errorf("the liar was asked %d times and its successor %d; want 1 and 3", liar.asked.Load(), good.asked.Load())
	}
	if s := node.Stats(); s.Condemned != 1 || s.Lost != 0 {
		t.Errorf("%d were condemned and %d lost; want the liar condemned alone", s.Condemned, s.Lost)
	}
	other := q
	other.Reference = oci.FromBytes(oci.SHA256, liar.raw).String()
	if a, err := node.Ask(t.Context(), d.String(), other, nil); err != nil || !bytes.Equal(a.Body, liar.raw) {
		t.Errorf("Ask for what the liar does have = %q, %v; want it trusted with that", a.Body, err)
	}
}
