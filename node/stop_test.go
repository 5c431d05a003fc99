package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/upstream"
)

func TestANodeThatHasStoppedAsksNothingAnyMore(t *testing.T) {
	asked := make(chan struct{}, 1)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			asked <- struct{}{}
		}
		<-r.Context().Done()
	}))
	defer hanging.Close()
	cfg := Default(t.TempDir())
	cfg.Registry.Listen, cfg.OptionalListen, cfg.Egress = []string{"127.0.0.1:0"}, nil, EgressYes
	cfg.PeerListen, cfg.PeerAdvertise, cfg.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.AdminListen, cfg.AdminSocket = "", ""
	client := upstream.Default()
	client.URL = hanging.URL
	cfg.Upstreams = map[string]Upstream{oci.DockerHub: {Client: client}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n, err := Open(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	<-n.Ready()
	caller, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := n.resolve(caller, oci.Repository{Upstream: oci.DockerHub, Path: "library/app"}, "latest", nil)
		left <- err
	}()
	<-asked
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("resolve for a caller that left = %v; want %v", err, context.Canceled)
	}
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run = %v; want nil", err)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if bytes.Contains(stacks, []byte("node.(*Node).resolve")) || bytes.Contains(stacks, []byte("node.(*flights)")) {
		t.Errorf("Run has returned and a question is still being asked:\n%s", stacks)
	}
}
