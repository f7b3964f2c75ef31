package main

import (
	"fmt"
	"os"
	"path/filepath"

	"stepup/webhook"
	"stepup/worker/api"
)

const (
	configFile  = "stepup.yaml"
	webhookFile = "ledger.whsec"
	apiKeysFile = "bank.apikeys"
	demoClient  = "demo-bank"
	hooksPath   = "/hooks/stepup"
)

// demoConfig is a whole configuration; see deploy/stepup.yaml for every member.
const demoConfig = `development: true
listen: {api: "%[1]s", admin: "%[2]s"}
redis: {url: embedded, shards: 2}
seal: {keys_file: seal.keys}
worker: {max_in_flight: 1000, max_in_flight_total: 1000}
providers:
  singpass:
    issuer: %[3]s
    profile: singpass
    client_id: demo-bank
    keys_file: private.jwks.json
    poll: {interval: 1s}
callers:
  bank:
    api_keys_file: bank.apikeys
    providers: [singpass]
    may_list: true
    webhooks:
      - {name: ledger, url: "%[4]s/hooks/stepup", secrets_file: ledger.whsec}
limits:
  per_person: {in_flight: 1, per_hour: 1000}
`

// writeConfig makes the folder that `serve` would be given, by the same steps as an operator, and returns the API key.
func (d *demo) writeConfig() (key string, err error) {
	if _, err := newKeys(d.dir); err != nil {
		return "", err
	}
	key, line := api.NewAPIKey()
	for name, content := range map[string]string{
		configFile:  fmt.Sprintf(demoConfig, d.addr(0), d.addr(1), d.opURL(), d.bankURL()),
		apiKeysFile: line + "\n",
		webhookFile: webhook.NewSecret() + "\n",
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return key, nil
}
