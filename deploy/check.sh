#!/usr/bin/env bash
# check.sh  holds the files of this folder against the tools of those who read them: Prometheus, Docker Compose, Kubernetes, systemd.
# No argument, no input. What cannot be had here is named and left out; what is wrong ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

promtool=prometheus # Debian's package
compose=github.com/compose-spec/compose-go/v2/cmd@v2.16.2
kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
kubernetes=v1.33.0 # whose API descriptions are taken

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
left_out=0

# have COMMAND PACKAGE  makes sure of a program, or says that it is left out.
have() {
	deploy/need.sh "$1" "$2" >"$work/out" 2>&1 || leave_out "$1" "$(tail -n 1 "$work/out")"
}

# tool NAME MODULE  builds a program from a Go module, or says that it is left out.
tool() {
	mkdir -p "$work/bin-$1"
	if GOBIN="$work/bin-$1" GOFLAGS=-mod=mod go install "$2" >"$work/out" 2>&1; then
		mv "$work/bin-$1"/* "$work/$1"
	else
		leave_out "$1" "$(tail -n 1 "$work/out")"
	fi
}

leave_out() {
	echo "-- LEFT OUT: $1 cannot be had here: $2"
	left_out=$((left_out + 1))
	return 1
}

if have promtool $promtool; then
	echo '-- promtool: scrape configuration, alert rules and their tests, the dashboard'"'"'s queries'
	promtool check config --syntax-only deploy/prometheus/prometheus.yml
	promtool check rules deploy/prometheus/alerts.yml
	promtool test rules deploy/prometheus/alerts_test.yml
fi

if have promtool $promtool && have jq jq; then
	jq '{groups: [{name: "dashboard", rules: [.panels[].targets // [] | .[] | {record: "a:query", expr: .expr}]}]}' deploy/grafana/stepup.json |
		sed 's/\$__rate_interval/5m/g' >"$work/dashboard.yml"
	promtool check rules --lint=none "$work/dashboard.yml"
fi

if tool compose $compose; then
	echo '-- docker compose config'
	"$work/compose" docker-compose.yml >"$work/compose.yml"
	sed -n 's/^ *image: /   /p' "$work/compose.yml" | sort -u
fi

# schemas writes a schema for each kind of an API group: what the group's description says, and nothing that it does not name.
schemas() {
	jq 'walk(if type == "object" and has("properties") and (has("additionalProperties") | not) then .additionalProperties = false else . end)' \
		"$1/api/openapi-spec/v3/$2_openapi.json" >"$work/schemas/$2.json"
	jq -r '.components.schemas | to_entries[] | .key as $name | .value["x-kubernetes-group-version-kind"] // [] | .[] |
		[.kind + (.group | split(".")[0] // "" | if . == "" then "" else "-" + . end) + "-" + .version, $name] | @tsv' "$work/schemas/$2.json" |
		while IFS=$'\t' read -r kind name; do
			printf '{"$ref": "%s.json#/components/schemas/%s"}\n' "$2" "$name" >"$work/schemas/${kind,,}.json"
		done
}

if tool kustomize $kustomize && tool kubeconform $kubeconform && have jq jq; then
	echo '-- kustomize build, and kubeconform against the API of Kubernetes' $kubernetes
	"$work/kustomize" build deploy/kubernetes >"$work/kubernetes.yml"
	if described=$(cd "$work" && go mod download -json "k8s.io/kubernetes@$kubernetes" | jq -r .Dir) && [ -d "$described" ]; then
		mkdir "$work/schemas"
		for group in api__v1 apis__apps__v1 apis__autoscaling__v2 apis__networking.k8s.io__v1 apis__policy__v1; do
			schemas "$described" "$group"
		done
		"$work/kubeconform" -strict -summary -schema-location "$work/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$work/kubernetes.yml"
	else
		leave_out 'the description of the Kubernetes API' "module k8s.io/kubernetes@$kubernetes" || true
	fi
fi

if have systemd-analyze systemd; then
	echo '-- systemd-analyze: verify, and security (exposure of 10, lower is better)'
	# It ends well for a line that it cannot read, and says so.
	systemd-analyze verify deploy/systemd/stepup.service 2>&1 | tee "$work/out"
	if grep -q stepup.service "$work/out"; then
		exit 1
	fi
	if ! systemd-analyze security --offline=true --threshold=15 deploy/systemd/stepup.service >"$work/out"; then
		cat "$work/out"
		exit 1
	fi
	tail -n 1 "$work/out"
fi

if [ $left_out -gt 0 ]; then
	echo "-- $left_out left out, see above"
fi
