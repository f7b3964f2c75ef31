# make test installs what the tests need and runs all of them; make demo shows the whole way of a step-up on this machine;
# make crash does its worst to real processes for half an hour and writes deploy/RELIABILITY.md.

# Programs written by others that the tests run: providers, receivers, makers of clients.
PACKAGES := ciba/cibatest/peers cmd/stepup/testdata/client
INSTALLED := $(PACKAGES:%=%/node_modules/.package-lock.json)

.PHONY: test demo build crash deps redis curl openssl node

test: deps
	go test ./...

demo:
	go run ./cmd/stepup demo

build:
	CGO_ENABLED=0 go build -trimpath -o bin/stepup ./cmd/stepup

crash: redis
	go run ./cmd/crash -report deploy/RELIABILITY.md

deps: redis curl openssl $(INSTALLED)

redis:
	@deploy/need.sh redis-server redis-server

curl:
	@deploy/need.sh curl curl

openssl:
	@deploy/need.sh openssl openssl

node:
	@deploy/need.sh npm nodejs npm

$(INSTALLED): %/node_modules/.package-lock.json: %/package-lock.json | node
	cd $* && npm ci --no-audit --no-fund
	@touch $@
