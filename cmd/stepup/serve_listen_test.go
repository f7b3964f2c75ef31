package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

// No listener says what it is made of, and none invites browsers of other sites. A memory limit of the environment stays.
func TestListenersSayNothing(t *testing.T) {
	limit := debug.SetMemoryLimit(-1)
	w := begin(t, replaced("listen: {", `listen: {public: "127.0.0.1:0", `))
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("the memory limit became %d, was %d", got, limit)
	}
	public := regexp.MustCompile(`"public":"([^"]+)"`).FindStringSubmatch(w.log.String())
	if public == nil {
		t.Fatal("the log does not say where the public listener is")
	}
	for _, base := range []string{w.bank.url, w.admin, "http://" + public[1]} {
		for _, path := range []string{"/", "/v1/step-ups", "/livez", "/providers/singpass/jwks.json"} {
			for _, method := range []string{http.MethodGet, http.MethodOptions, "BREW"} {
				req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header = http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"POST"}, "Authorization": {"Bearer " + w.bank.key}}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				for name := range res.Header {
					if name == "Server" || strings.HasPrefix(name, "X-Powered") || strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s %s%s: %s: %s", method, base, path, name, res.Header.Get(name))
					}
				}
			}
		}
	}
	if w.log.has("RUNNING AS ROOT") {
		t.Error("the warning is for production")
	}
	w.drain(t)
}

// Where real people are asked, a service that runs as root says so loudly.
func TestRootIsTold(t *testing.T) {
	dir := t.TempDir()
	if _, err := newKeys(dir); err != nil {
		t.Fatal(err)
	}
	_, line := api.NewAPIKey()
	write(t, dir, apiKeysFile, line)
	write(t, dir, webhookFile, webhook.NewSecret())
	yaml := fmt.Sprintf(demoConfig, "127.0.0.1:0", "127.0.0.1:0", "https://op.example", "https://bank.example")
	yaml = strings.Replace(yaml, "url: embedded", "url: redis://127.0.0.1:1/0", 1)
	yaml = strings.Replace(yaml, "poll: {interval: 1s}", "", 1)
	write(t, dir, configFile, strings.Replace(yaml, "development: true", "development: false", 1))
	log := &logText{}
	s := &service{path: dir + "/" + configFile, role: worker.RoleAll, log: newLog(log, "json")}
	if err := s.run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redis.url: ") {
		t.Fatalf("without Redis: %v", err)
	}
	if got, want := log.has("RUNNING AS ROOT"), os.Geteuid() == 0; got != want {
		t.Errorf("told: %v, and we are root: %v", got, want)
	}
}
