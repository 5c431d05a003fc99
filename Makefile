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
test: tools lint ## all tests
	$(GO) test -timeout 20m ./...

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

.PHONY: proto
proto: ## generate the Go of proto/; needs protoc and the two plug-ins that CONTRIBUTING.md names
	protoc --go_out=. --go_opt=module=github.com/pullonce/pullonce \
		--go-grpc_out=. --go-grpc_opt=module=github.com/pullonce/pullonce proto/*/*.proto

.PHONY: clean
clean:
	rm -rf $(BIN) .cache
