#!/bin/sh
# init.sh DIR [TOKENS]  makes the keys and secrets of the compose stack, once, and in TOKENS a copy of the operators' token for
# who reads metrics and nothing else. For development: it prints the API key and the token. Needs `stepup` in the PATH.
set -eu
umask 077

dir=$1
tokens=${2:-$1}
mkdir -p "$dir" "$tokens"

random() { head -c 32 /dev/urandom | base64 | tr -d '\n'; }
word() { random | tr '+/' '-_' | tr -d '='; }

# Each file appears whole or not at all, so a start that was cut short is made good by the next.
keep() { cat >"$dir/$1.new" && mv "$dir/$1.new" "$dir/$1"; }

# The seal key comes last: without it the others are of a start that was cut short, and keygen overwrites nothing.
if [ ! -s "$dir/seal.keys" ]; then
	rm -f "$dir/private.jwks.json" "$dir/public.jwks.json"
	stepup keygen --out "$dir"
fi
[ -s "$dir/api.key" ] || word | keep api.key
[ -s "$dir/core-banking.apikeys" ] || printf 'sha256:%s\n' "$(sha256sum <"$dir/api.key" | cut -d' ' -f1)" | keep core-banking.apikeys
[ -s "$dir/ledger.whsec" ] || printf 'whsec_%s\n' "$(random)" | keep ledger.whsec
[ -s "$dir/admin.token" ] || word | keep admin.token

[ "$tokens" = "$dir" ] || cp "$dir/admin.token" "$tokens/"

# The service runs as this user (deploy/Dockerfile).
if [ "$(id -u)" -eq 0 ]; then
	chown -R 65532:65532 "$dir" "$tokens"
fi

cat <<TELL
API key of core-banking:  $(cat "$dir/api.key")
operators' token:         $(cat "$dir/admin.token")

Ask somebody (the "phone" is at http://127.0.0.1:8090/phone, the webhooks are in the receiver's log):

  curl http://127.0.0.1:8080/v1/step-ups -H 'Authorization: Bearer $(cat "$dir/api.key")' \\
    -H 'Content-Type: application/json' -H 'Idempotency-Key: first' \\
    -d '{"provider":"singpass","login_hint":"S1234567D"}'
TELL
