# make test installs what the tests need and runs all of them; make demo shows the whole way of a step-up on this machine;
# make crash does its worst to real processes for half an hour and writes deploy/RELIABILITY.md.

# Programs written by others that the tests run: providers, receivers, makers of clients.
PACKAGES := ciba/cibatest/peers cmd/stepup/testdata/client deploy/receivers/node
INSTALLED := $(PACKAGES:%=%/node_modules/.package-lock.json)

.PHONY: test demo build crash check-deploy deps redis curl openssl prometheus chromium shells node python java

test: deps
	go test ./...

demo:
	go run ./cmd/stepup demo

build:
	CGO_ENABLED=0 go build -trimpath -o bin/stepup ./cmd/stepup

crash: redis
	go run ./cmd/crash -report deploy/RELIABILITY.md

# What stands in deploy/, held against Prometheus, Docker Compose, Kubernetes and systemd.
check-deploy:
	deploy/check.sh

deps: redis curl openssl prometheus chromium shells python java $(INSTALLED)

redis:
	@deploy/need.sh redis-server redis-server

curl:
	@deploy/need.sh curl curl

openssl:
	@deploy/need.sh openssl openssl

prometheus:
	@deploy/need.sh prometheus prometheus

chromium:
	@deploy/need.sh chromium chromium

# Completion is typed into them, through script.
shells:
	@deploy/need.sh zsh zsh
	@deploy/need.sh fish fish
	@deploy/need.sh script bsdutils

node:
	@deploy/need.sh npm nodejs npm

# Debian's packages are for Debian's interpreter, which need not be the first on the PATH.
python:
	@deploy/need.sh 'python3 -c "import jwcrypto" || /usr/bin/python3 -c "import jwcrypto"' python3 python3-jwcrypto

java:
	@deploy/need.sh javac default-jdk-headless

$(INSTALLED): %/node_modules/.package-lock.json: %/package-lock.json | node
	cd $* && npm ci --no-audit --no-fund
	@touch $@
