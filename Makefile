# make demo | run | test | bench | bench-shaped; see README.md.

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X github.com/pullonce/pullonce/internal/version.release=$(VERSION)

.PHONY: build
build: ## the product's three programs, into bin/
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/p2pd ./cmd/p2pctl ./cmd/p2psim

.PHONY: run
run: build ## one node that mirrors Docker Hub on 127.0.0.1:5000, data under ./.p2pd
	exec $(BIN)/p2pd --data-dir ./.p2pd

.PHONY: test
test: tools lint ## all tests; never from the cache, since some start programs that they build
	$(GO) test -count=1 -timeout 20m ./...

.PHONY: tools
tools: ## what the tests need of the machine
	./scripts/setup-test-tools.sh

.PHONY: lint
lint: ## format and vet
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); if [ -n "$$out" ]; then echo "gofmt:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...

.PHONY: race
race: ## the rooms that goroutines share, with the race detector
	$(GO) test -race -short ./blobstore ./transfer ./swarm ./gossip ./ring ./upstream ./registryapi ./node ./internal/testfarm

.PHONY: bench
bench: ## the figures of docs/performance.md that need no namespaces; JSON=FILE RUNS=N ONLY=names
	@mkdir -p .cache
	$(GO) run ./scripts/bench -runs $(or $(RUNS),3) -only '$(ONLY)' -json $(or $(JSON),.cache/bench.json)

.PHONY: bench-shaped
bench-shaped: ## the figures on shaped links; root and iproute2
	@mkdir -p .cache
	$(GO) run ./scripts/bench -shaped -runs $(or $(RUNS),3) -only '$(ONLY)' -json $(or $(JSON),.cache/bench-shaped.json)

.PHONY: proto
proto: ## generate the Go of proto/; needs protoc and the two plug-ins that CONTRIBUTING.md names
	protoc --go_out=. --go_opt=module=github.com/pullonce/pullonce \
		--go-grpc_out=. --go-grpc_opt=module=github.com/pullonce/pullonce proto/*/*.proto

.PHONY: clean
clean:
	rm -rf $(BIN) .cache

# NODES=5 hosts; RATE=50MB bytes a second of the stand-in's link; JSON=FILE; HUB=1 real Docker Hub, IMAGE=library/python:3
NODES ?= 5
RATE  ?= 50MB
.PHONY: demo
demo: ## a farm of 5 hosts on this machine pulls an image at once, and it crosses the upstream link once
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/p2pd ./scripts/demo
	@exec $(BIN)/demo -p2pd $(BIN)/p2pd -nodes '$(NODES)' -rate '$(RATE)' $(if $(HUB),-hub) $(if $(IMAGE),-image '$(IMAGE)') $(if $(JSON),-json '$(JSON)')
