package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/pullonce/pullonce/adminapi"
	"github.com/pullonce/pullonce/catalog"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

// lone runs a node without a farm until the test ends.
func lone(t *testing.T) *Node {
	t.Helper()
	cfg := Default(t.TempDir())
	cfg.Registry.Listen, cfg.OptionalListen, cfg.Egress = []string{"127.0.0.1:0"}, nil, EgressNo
	cfg.PeerListen, cfg.PeerAdvertise, cfg.Gossip.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.AdminListen, cfg.AdminSocket = "", ""
	ctx, stop := context.WithCancel(t.Context())
	n, err := Open(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
	})
	<-n.Ready()
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err := n.catalog.Index(ctx); err == nil {
			return n
		} else if time.Now().After(end) {
			t.Fatalf("no catalog: %v", err)
		}
	}
}

// TestWhatARestoredCatalogLacksIsSparedForAWhile is of content that was pushed after the backup: nothing names it any
// more, and a person has to have time to notice.
func TestWhatARestoredCatalogLacksIsSparedForAWhile(t *testing.T) {
	n := lone(t)
	if n.collectionRests(t.Context()) {
		t.Error("collections rest before anything has happened; want them to go on")
	}
	var backup bytes.Buffer
	o := operators{n}
	if err := o.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	raw := bytes.Clone(backup.Bytes())
	for name, found := range map[string]func() error{
		"restore": func() error { return o.Restore(t.Context(), bytes.NewReader(raw), true) },
		"recover": func() error { _, err := o.Recover(t.Context(), true); return err },
	} {
		before, _ := n.Ring()
		hash, _ := copiesFarm{n}.Ring()
		if err := found(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !n.collectionRests(t.Context()) {
			t.Errorf("after %s collections by schedule go on; want them to rest", name)
		}
		if ring, _ := n.Ring(); ring != before {
			t.Errorf("after %s the ring is %x; want %x", name, ring, before)
		}
		if other, _ := (copiesFarm{n}).Ring(); other == hash {
			t.Errorf("after %s copies go by ring %x; want another one, since the catalog is", name, other)
		}
	}
	if c, err := o.Collect(t.Context(), false); err != nil || len(c.Nodes) != 1 || c.Nodes[0] != (adminapi.NodeCollected{ID: n.id}) {
		t.Errorf("Collect by hand = %+v, %v; want it done", c, err)
	}
}

// TestAManifestThatWasRefusedIsNotRebuilt is of a push that lacks its blobs: its note was put down before it was refused.
func TestAManifestThatWasRefusedIsNotRebuilt(t *testing.T) {
	n := lone(t)
	repo := oci.Repository{Upstream: n.cfg.Hosted.Prefix, Path: "app"}
	raw, _ := manifestOf(t, 1)
	m := registryapi.Pushed{Digest: oci.FromBytes(oci.SHA256, raw), MediaType: oci.MediaTypeOCIManifest, Raw: raw, Tags: []string{"latest"}}
	var err error
	if m.Manifest, err = oci.ParseManifest(m.MediaType, raw); err != nil {
		t.Fatal(err)
	}
	err = n.hosting.PutManifest(t.Context(), repo, m)
	if _, missing := errors.AsType[*registryapi.MissingError](err); !missing {
		t.Fatalf("PutManifest without blobs = %v; want a MissingError", err)
	}
	withdrawn := func() bool {
		copies, err := catalog.DecodeCopies(n.store.Note(m.Digest))
		return err == nil && len(copies) == 1 && copies[0].Gone
	}
	for end := time.Now().Add(10 * time.Second); !withdrawn() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	r, err := operators{n}.Recover(t.Context(), true)
	if err != nil || r.Manifests != 0 || r.Tags != 0 {
		t.Errorf("Recover after a push that was refused = %+v, %v; want nothing", r, err)
	}
}
