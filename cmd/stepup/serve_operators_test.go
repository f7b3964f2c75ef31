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
// have changed since it was opened. A page of somebody else's, whose name leads to this machine, is none.
func TestOpenAdminListenerIsForLoopback(t *testing.T) {
	for _, tt := range []struct {
		name     string
		local    net.Addr
		host     string
		operator bool
	}{
		{"loopback", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}, "127.0.0.1:8081", true},
		{"loopback, IPv6", &net.TCPAddr{IP: net.IPv6loopback, Port: 8081}, "[::1]:8081", true},
		{"loopback by its name", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, "localhost", true},
		{"loopback by another's name", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}, "stepup.example:8081", false},
		{"loopback by a name like ours", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}, "localhost.example", false},
		{"reachable", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8081}, "127.0.0.1:8081", false},
		{"unknown", nil, "localhost", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = tt.host
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
