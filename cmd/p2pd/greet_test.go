package main

import (
	"strings"
	"testing"

	"github.com/pullonce/pullonce/config"
)

func TestTheGreetingTellsHowToTryItAndWhichRegistriesThereAre(t *testing.T) {
	alone := config.Config{DefaultUpstream: "docker.io", DataDir: "./.p2pd", Upstreams: map[string]config.Upstream{"docker.io": {}}}
	text := greeting("vm-1", "127.0.0.1:5000", alone)
	for _, want := range []string{
		"To try it without changing Docker:\n\n  docker pull 127.0.0.1:5000/library/alpine\n",
		`{ "registry-mirrors": ["http://127.0.0.1:5000"] }`, "P2PD_UPSTREAMS=ghcr.io",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("greeting has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "Other registries are") || strings.Contains(text, "localhost") {
		t.Errorf("greeting of a mirror of Docker Hub alone:\n%s", text)
	}
	alone.Upstreams["quay.io"], alone.Upstreams["ghcr.io"] = config.Upstream{}, config.Upstream{}
	const want = "Other registries are pulled by name:\n\n  docker pull 127.0.0.1:5000/ghcr.io/…\n  docker pull 127.0.0.1:5000/quay.io/…\n"
	if text := greeting("vm-1", "127.0.0.1:5000", alone); !strings.Contains(text, want) {
		t.Errorf("greeting has no %q:\n%s", want, text)
	}
}

func TestClientsAreTold127001WhereTheRegistryListensOnAllAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:5000": "127.0.0.1:5000", "[::]:5001": "127.0.0.1:5001", "127.0.0.7:5000": "127.0.0.7:5000",
		"10.0.0.5:5000": "10.0.0.5:5000",
	} {
		if got := forClients(address); got != want {
			t.Errorf("forClients(%q) = %q; want %q", address, got, want)
		}
	}
}
