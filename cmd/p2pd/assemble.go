package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/pullonce/pullonce/config"
	"github.com/pullonce/pullonce/internal/version"
	"github.com/pullonce/pullonce/node"
	"github.com/pullonce/pullonce/trust"
)

// assemble turns the configuration that people write into what the node works by.
func assemble(cfg config.Config) (node.Config, error) {
	disk, err := diskSize(cfg.DataDir)
	if err != nil {
		return node.Config{}, err
	}
	c := node.Default(cfg.DataDir)
	c.Farm, c.Zone, c.Version = cfg.Farm, cfg.Zone, version.String()
	c.Trust = node.Trust{
		Mode: trust.Mode(cfg.Trust.Mode), Token: cfg.Trust.Token, TokenFile: cfg.Trust.TokenFile,
		Files: trust.Files{CA: cfg.Trust.CAFile, Cert: cfg.Trust.CertFile, Key: cfg.Trust.KeyFile, GossipKey: cfg.Trust.GossipKeyFile},
	}
	c.Egress, c.Prefetch = node.Egress(cfg.Egress), cfg.Prefetch
	c.Partitions, c.StopGrace = cfg.RingPartitions, cfg.Registry.ShutdownGrace

	c.Door = node.Door{FarmTLS: cfg.Registry.TLS.Mode == "farm", AdminTokenFile: cfg.Admin.TokenFile}
	c.Registry.Listen = cfg.Registry.Listen
	c.Registry.Hosts = cfg.Registry.Hosts
	c.Registry.FirstByteTimeout, c.Registry.StallTimeout = cfg.Registry.FirstByteTimeout, cfg.Registry.StallTimeout
	c.OptionalListen = nil
	if cfg.Registry.ListenDefaulted {
		c.OptionalListen = cfg.Registry.Listen[1:]
	}
	c.PeerListen, c.PeerAdvertise = cfg.Peer.Listen, cfg.Peer.Advertise
	c.Gossip.Listen, c.Gossip.Advertise, c.Gossip.Seeds = cfg.Gossip.Listen, cfg.Gossip.Advertise, cfg.Join
	c.Gossip.HoldDown = cfg.Gossip.HoldDown
	c.AdminListen, c.AdminSocket = cfg.Admin.Listen, cfg.Admin.Socket

	c.Store.MaxBytes, c.Store.MinFreeBytes = cfg.Cache.MaxSize.Of(disk), cfg.Cache.MinFree.Of(disk)
	c.Store.MaxHosted, c.Store.HostedFree = cfg.Hosted.MaxSize.Of(disk), cfg.Hosted.MinFree.Of(disk)
	c.Store.ScrubInterval = cfg.Cache.ScrubInterval
	c.Hosted = node.Hosted{
		Prefix: cfg.Hosted.Prefix, Copies: cfg.Hosted.Copies, MinCopies: cfg.Hosted.MinCopies, RepairRate: cfg.Hosted.RepairRate,
		CompareEvery: cfg.Hosted.CompareInterval, GCEvery: cfg.Hosted.GCInterval, Grace: cfg.Hosted.GCGrace,
	}
	c.Store.MaxUpload, c.Store.MaxUploads, c.Store.UploadExpiry = cfg.Hosted.MaxUpload, cfg.Hosted.MaxUploads, cfg.Hosted.UploadExpiry
	c.Registry.SlowestUpload = cfg.Hosted.SlowestUpload
	c.Transfer.Upload, c.Transfer.Download = cfg.Limits.Upload, cfg.Limits.Download
	c.UpstreamRate = cfg.Limits.Upstream
	c.Transfer.Budget = cfg.Limits.Memory
	c.Transfer.UpstreamFallback = cfg.UpstreamFallback == "direct"
	assembleUpstreams(cfg, &c)
	return c, nil
}

// diskSize is the size in bytes of the file system that dir is on, or will be.
func diskSize(dir string) (int64, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return 0, err
	}
	for {
		var s syscall.Statfs_t
		err := syscall.Statfs(at, &s)
		if err == nil {
			return int64(s.Blocks) * s.Bsize, nil
		}
		if parent := filepath.Dir(at); parent != at && errors.Is(err, syscall.ENOENT) {
			at = parent
			continue
		}
		return 0, fmt.Errorf("size of the disk of %s: %w", dir, err)
	}
}
