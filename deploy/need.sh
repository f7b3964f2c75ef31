#!/bin/sh
# need.sh COMMAND PACKAGE...  makes sure that a command is there, by apt-get where there is one.
set -eu

command=$1
shift
if command -v "$command" >/dev/null 2>&1; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "$command is missing, and this system has no apt-get: install $command (packages like: $*) and try again" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "$command is missing: run as root: apt-get install $*" >&2
		exit 1
	fi
	as_root=sudo
fi
echo "installing $* for $command"
export DEBIAN_FRONTEND=noninteractive
# Package lists may be absent or old: try without, then with fresh ones.
$as_root apt-get install -y --no-install-recommends "$@" </dev/null >/dev/null 2>&1 ||
	{ $as_root apt-get update -q </dev/null && $as_root apt-get install -y --no-install-recommends "$@" </dev/null; }
command -v "$command" >/dev/null
