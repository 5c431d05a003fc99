# make demo | run | test | bench | bench-shaped; see README.md.

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X github.com/pullonce/pullonce/internal/version.release=$(VERSION)

# Tools that check and generate. Each has a go.mod of its own, so that the product's has only what the product needs.
BUF      := $(GO) tool -modfile=tools/buf/go.mod buf
GOFUMPT  := $(GO) tool -modfile=tools/gofumpt/go.mod gofumpt
GOLANGCI := $(GO) tool -modfile=tools/golangci-lint/go.mod golangci-lint

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
lint: ## form, linters, proto; the first run builds the tools
	@out=$$($(GOFUMPT) -l .) || exit 1; if [ -n "$$out" ]; then echo "gofumpt, see make fmt:"; echo "$$out"; exit 1; fi
	@out=$$($(GO) fix -diff ./...); if [ -n "$$out" ]; then echo "go fix, see make fmt:"; echo "$$out"; exit 1; fi
	$(GOLANGCI) run ./...
	$(BUF) lint
	@# What a release has on the wire stays; before the first one, what is committed.
	@if base=$$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse HEAD 2>/dev/null); then \
		echo "buf breaking, against $$base"; git archive --format=tar $$base proto | $(BUF) breaking --against '-#format=tar'; fi
	@# Each compiler writes its own version on a line of the head.
	@out=$$(mktemp -d) && trap 'rm -rf $$out' EXIT && $(BUF) generate -o $$out && \
		if ! diff -r -x '*.proto' -I '^//.*[^-]protoc ' proto $$out/proto; then echo "generated code is old, see make proto"; exit 1; fi

.PHONY: fmt
fmt: ## mend what can be mended without thought
	$(GO) fix ./...
	$(GOFUMPT) -w .

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
proto: ## generate the Go of proto/
	$(BUF) generate

.PHONY: clean
clean:
	rm -rf $(BIN) .cache

# NODES=5 hosts; RATE=50MB bytes a second of the stand-in's link; JSON=FILE; HUB=1 real Docker Hub, IMAGE=library/python:3
# PUSH=1: an image is pushed to one host instead, and no upstream is asked
NODES ?= 5
RATE  ?= 50MB
.PHONY: demo
demo: ## a farm of 5 hosts on this machine pulls an image at once, and it crosses the upstream link once
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/p2pd ./scripts/demo
	@exec $(BIN)/demo -p2pd $(BIN)/p2pd -nodes '$(NODES)' -rate '$(RATE)' $(if $(HUB),-hub) $(if $(PUSH),-push) $(if $(IMAGE),-image '$(IMAGE)') $(if $(JSON),-json '$(JSON)')
