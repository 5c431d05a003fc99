package main

import (
	"testing"
	"time"

	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/node"
)

func TestLimitsGoWhereTheyHold(t *testing.T) {
	c, err := assemble(config.Config{
		DataDir: t.TempDir(), DefaultUpstream: "docker.io", UpstreamFallback: "never",
		Limits: config.Limits{Upload: 1, Download: 2, Upstream: 3000, Memory: 64 << 20},
		Upstreams: map[string]config.Upstream{
			"docker.io": {MaxConcurrent: 16, Rate: 5000, Connections: 1}, "ghcr.io": {MaxConcurrent: 16, Connections: 8},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Transfer.Upload != 1 || c.Transfer.Download != 2 || c.Transfer.UpstreamFallback {
		t.Errorf("assemble gives upload %d, download %d, fallback %v; want 1, 2, false", c.Transfer.Upload, c.Transfer.Download, c.Transfer.UpstreamFallback)
	}
	hub, other := c.Upstreams["docker.io"], c.Upstreams["ghcr.io"]
	if c.UpstreamRate != 3000 || hub.Client.BytesPerSecond != 5000 || other.Client.BytesPerSecond != 0 {
		t.Errorf("assemble gives %d for all upstreams, %d and %d for each; want 3000 for all together, 5000 and none",
			c.UpstreamRate, hub.Client.BytesPerSecond, other.Client.BytesPerSecond)
	}
	if hub.Connections != 1 || other.Connections != 8 {
		t.Errorf("assemble gives %d and %d connections; want those of each upstream, 1 and 8", hub.Connections, other.Connections)
	}
}

func TestWhatIsSaidOfHostedContentGoesWhereItHolds(t *testing.T) {
	c, err := assemble(config.Config{
		DataDir: t.TempDir(),
		Hosted: config.Hosted{
			Prefix: "images.example", Copies: 4, MinCopies: 3, MaxUpload: 1, MaxUploads: 2, UploadExpiry: 5 * time.Minute, SlowestUpload: 6,
			RepairRate: 7, CompareInterval: 8 * time.Second, GCInterval: 9 * time.Hour, GCGrace: 10 * time.Minute,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := node.Hosted{
		Prefix: "images.example", Copies: 4, MinCopies: 3, RepairRate: 7, CompareEvery: 8 * time.Second, GCEvery: 9 * time.Hour,
		Grace: 10 * time.Minute,
	}
	if c.Hosted != want {
		t.Errorf("assemble gives %+v; want %+v", c.Hosted, want)
	}
	if c.Store.MaxUpload != 1 || c.Store.MaxUploads != 2 || c.Store.UploadExpiry != 5*time.Minute || c.Registry.SlowestUpload != 6 {
		t.Errorf("assemble gives uploads %d, %d, %v and %d; want 1, 2, 5m and 6",
			c.Store.MaxUpload, c.Store.MaxUploads, c.Store.UploadExpiry, c.Registry.SlowestUpload)
	}
}
