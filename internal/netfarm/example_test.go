package netfarm_test

import (
	"context"
	"fmt"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/netfarm"
)

// A farm of two hosts whose links carry 200 Mbit/s, with a node and a dockerd each, and Docker Hub's stand-in outside.
func Example() {
	err := func(ctx context.Context) error {
		farm, err := netfarm.New(ctx, netfarm.Config{})
		if err != nil {
			return err
		}
		defer func() { _ = farm.Close() }()
		outside, err := farm.AddHost(ctx, "hub", netfarm.Link{Rate: 100e6})
		if err != nil {
			return err
		}
		registry, err := outside.StartHub(ctx, hub.Default(), netfarm.DockerHub())
		if err != nil {
			return err
		}
		var hosts []*netfarm.Host
		for _, name := range []string{"a", "b"} {
			h, err := farm.AddHost(ctx, name, netfarm.Link{Rate: 200e6})
			if err != nil {
				return err
			}
			if err := h.Resolve(netfarm.DockerHub().At(outside)); err != nil {
				return err
			}
			hosts = append(hosts, h)
		}
		for _, h := range hosts {
			if _, err := h.StartNode(ctx, "/usr/bin/p2pd", h.NodeConfig(hosts...)); err != nil {
				return err
			}
			docker, err := h.StartDockerd(ctx, map[string]any{"registry-mirrors": []string{"http://127.0.0.1:5000"}})
			if err != nil {
				return err
			}
			if err := docker.Pull(ctx, "library/app:1"); err != nil {
				return err
			}
		}
		fmt.Println(registry.Stats().BlobBytes, "bytes crossed the upstream link")
		return nil
	}(context.Background())
	fmt.Println(err)
}
