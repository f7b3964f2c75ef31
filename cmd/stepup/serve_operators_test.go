package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"stepup/config"
	"stepup/worker/api"
)

// Without a token and without authorities only this machine's users are operators, wherever the listener is: the file may
// have changed since it was opened.
func TestOpenAdminListenerIsForLoopback(t *testing.T) {
	for _, tt := range []struct {
		name     string
		local    net.Addr
		operator bool
	}{
		{"loopback", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}, true},
		{"loopback, IPv6", &net.TCPAddr{IP: net.IPv6loopback, Port: 8081}, true},
		{"reachable", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8081}, false},
		{"unknown", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, tt.local))
			if got := (&parts{cfg: &config.Config{}}).operator(r); got != tt.operator {
				t.Errorf("operator: %v, want %v", got, tt.operator)
			}
			r.TLS = &tls.ConnectionState{}
			if (&parts{cfg: &config.Config{}, operators: api.ParseAuthorities(nil)}).operator(r) {
				t.Error("authorities are configured, and somebody without a certificate is an operator")
			}
		})
	}
}
