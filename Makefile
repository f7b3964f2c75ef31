# make test installs what the tests need and runs all of them; make demo shows the whole way of a step-up on this machine;
# make crash does its worst to real processes for half an hour and writes deploy/RELIABILITY.md.

PEERS := ciba/cibatest/peers

.PHONY: test demo build crash deps redis curl node

test: deps
	go test ./...

demo:
	go run ./cmd/stepup demo

build:
	CGO_ENABLED=0 go build -trimpath -o bin/stepup ./cmd/stepup

crash: redis
	go run ./cmd/crash -report deploy/RELIABILITY.md

deps: redis curl $(PEERS)/node_modules/.package-lock.json

redis:
	@deploy/need.sh redis-server redis-server

curl:
	@deploy/need.sh curl curl

node:
	@deploy/need.sh npm nodejs npm

# Providers and receivers written by others, which the tests speak with.
$(PEERS)/node_modules/.package-lock.json: $(PEERS)/package-lock.json | node
	cd $(PEERS) && npm ci --no-audit --no-fund
	@touch $@
