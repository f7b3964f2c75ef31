package peers_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"stepup/ciba/cibatest/peers"
)

// failing is a test that notes why it was failed.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// A missing peer fails the test and names the command that brings it; it is not skipped.
func TestNeed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		peers.Need(f)
	}()
	<-done
	if !strings.Contains(f.why, "node") || !strings.Contains(f.why, "npm ci") || f.Skipped() {
		t.Errorf("without node: %q", f.why)
	}
}

// Nothing outlives its test.
func TestProviderEndsWithItsTest(t *testing.T) {
	var issuer string
	t.Run("inner", func(t *testing.T) {
		issuer = peers.StartProvider(t, peers.ProviderOptions{ClientJWKS: newKeys(t).Public(), Content: "none"}).Issuer
		resp, err := http.Get(issuer + "/.well-known/openid-configuration")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("discovery: status %d", resp.StatusCode)
		}
	})
	if resp, err := http.Get(issuer); err == nil {
		resp.Body.Close()
		t.Error("the provider still answers after its test ended")
	}
}
