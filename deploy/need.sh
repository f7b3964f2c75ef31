#!/bin/sh
# need.sh COMMAND PACKAGE...  makes sure that a command is there, by apt-get where there is one. COMMAND is a program's name,
# or a whole command that succeeds where everything is there.
set -eu

command=$1
shift
case $command in
*' '*) name=$* ;;
*) name=$command ;;
esac
there() {
	case $command in
	*' '*) sh -c "$command" ;;
	*) command -v "$command" ;;
	esac >/dev/null 2>&1
}
if there; then
	exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "$name is missing, and this system has no apt-get: install it (packages like: $*) and try again" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "$name is missing: run as root: apt-get install $*" >&2
		exit 1
	fi
	as_root=sudo
fi
echo "$name is missing: installing $*"
export DEBIAN_FRONTEND=noninteractive
# Package lists may be absent or old: try without, then with fresh ones.
$as_root apt-get install -y --no-install-recommends "$@" </dev/null >/dev/null 2>&1 ||
	{ $as_root apt-get update -q </dev/null && $as_root apt-get install -y --no-install-recommends "$@" </dev/null; }
if ! there; then
	echo "$* was installed, and yet this fails: $command" >&2
	exit 1
fi
