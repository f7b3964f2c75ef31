package webhook

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

// Addresses are judged, by Allowed and by the hook that the dialer calls; none is dialled.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		addr  string
		allow string // a network on the allow list
		ok    bool
		what  string
	}{
		{"8.8.8.8", "", true, "public"},
		{"203.0.112.255", "", true, "just below a documentation net"},
		{"172.32.0.1", "", true, "just above 172.16.0.0/12"},
		{"100.128.0.1", "", true, "just above CGNAT"},
		{"2606:4700::1111", "", true, "public IPv6"},
		{"2400:cb00::1", "", true, "public IPv6"},
		{"::ffff:8.8.8.8", "", true, "mapped public"},

		{"0.0.0.0", "", false, "unspecified"},
		{"0.1.2.3", "", false, "this network"},
		{"10.0.0.1", "", false, "private"},
		{"172.16.0.1", "", false, "private"},
		{"172.31.255.255", "", false, "private"},
		{"192.168.1.1", "", false, "private"},
		{"127.0.0.1", "", false, "loopback"},
		{"127.255.255.254", "", false, "loopback"},
		{"169.254.0.1", "", false, "link-local"},
		{"169.254.169.254", "", false, "metadata of most clouds"},
		{"169.254.170.2", "", false, "credentials of containers"},
		{"100.64.0.1", "", false, "CGNAT"},
		{"100.100.100.200", "", false, "metadata in CGNAT"},
		{"168.63.129.16", "", false, "Azure's host agent"},
		{"192.0.0.192", "", false, "metadata among IETF assignments"},
		{"192.0.2.1", "", false, "documentation"},
		{"198.51.100.7", "", false, "documentation"},
		{"203.0.113.9", "", false, "documentation"},
		{"192.88.99.1", "", false, "6to4 relay"},
		{"198.18.0.1", "", false, "benchmark"},
		{"198.19.255.255", "", false, "benchmark"},
		{"224.0.0.1", "", false, "multicast"},
		{"239.255.255.250", "", false, "multicast"},
		{"240.0.0.1", "", false, "reserved"},
		{"255.255.255.255", "", false, "broadcast"},

		{"::", "", false, "unspecified"},
		{"::1", "", false, "loopback"},
		{"::127.0.0.1", "", false, "IPv4-compatible"},
		{"::ffff:127.0.0.1", "", false, "mapped loopback"},
		{"::ffff:10.0.0.1", "", false, "mapped private"},
		{"::ffff:169.254.169.254", "", false, "mapped metadata"},
		{"::ffff:0:127.0.0.1", "", false, "translated (SIIT)"},
		{"64:ff9b::10.0.0.1", "", false, "NAT64 to private"},
		{"64:ff9b::169.254.169.254", "", false, "NAT64 to metadata"},
		{"64:ff9b::8.8.8.8", "", false, "NAT64 is for the operator to allow"},
		{"64:ff9b:1::10.0.0.1", "", false, "local NAT64"},
		{"2002:a00:1::", "", false, "6to4 to private"},
		{"2002:808:808::1", "", false, "6to4"},
		{"2001:0:4136:e378:8000:63bf:3fff:fdd2", "", false, "Teredo"},
		{"2001:2::1", "", false, "benchmark"},
		{"2001:db8::1", "", false, "documentation"},
		{"3fff::1", "", false, "documentation"},
		{"100::1", "", false, "discard"},
		{"5f00::1", "", false, "segment routing"},
		{"fc00::1", "", false, "unique local"},
		{"fd00:ec2::254", "", false, "metadata in unique local"},
		{"fe80::1", "", false, "link-local"},
		{"fe80::1%eth0", "", false, "link-local with a zone"},
		{"2606:4700::1111%eth0", "", false, "a zone"},
		{"fec0::1", "", false, "site-local"},
		{"ff02::1", "", false, "multicast"},

		{"127.0.0.1", "127.0.0.0/8", true, "allowed"},
		{"::ffff:127.0.0.1", "127.0.0.0/8", true, "allowed, mapped"},
		{"127.0.0.1", "::ffff:127.0.0.0/104", true, "allowed as a mapped network"},
		{"10.1.2.3", "10.1.2.3/32", true, "one host allowed"},
		{"10.1.2.4", "10.1.2.3/32", false, "its neighbour"},
		{"0.0.0.0", "127.0.0.0/8", false, "unspecified is not loopback"},
		{"::1", "127.0.0.0/8", false, "the other loopback"},
		{"::1", "::1/128", true, "allowed"},
		{"fd12::1", "fd12::/16", true, "allowed"},
		{"fe80::1%eth0", "fe80::/10", false, "a zone, whatever is allowed"},
		{"127.0.0.1", "::/0", false, "an IPv6 network allows no IPv4"},
		{"::ffff:127.0.0.1", "::/0", false, "nor mapped"},
		{"64:ff9b::8.8.8.8", "64:ff9b::/96", true, "NAT64 allowed, to public"},
		{"64:ff9b::10.0.0.1", "64:ff9b::/96", false, "NAT64 allowed, to private"},
		{"64:ff9b::127.0.0.1", "64:ff9b::/96", false, "NAT64 allowed, to loopback"},
		{"64:ff9b::169.254.169.254", "::/0", false, "NAT64 to metadata, all IPv6 allowed"},
		{"2002:808:808::1", "2002::/16", true, "6to4 allowed, to public"},
		{"2002:a9fe:a9fe::", "2002::/16", false, "6to4 allowed, to metadata"},
	} {
		var allow []netip.Prefix
		if c.allow != "" {
			allow = prefixes("192.168.77.0/24", c.allow)
		}
		addr := netip.MustParseAddr(c.addr)
		if got := Allowed(addr, allow); got != c.ok {
			t.Errorf("Allowed(%s, %s) = %v: %s", c.addr, c.allow, got, c.what)
		}
		network := "tcp6"
		if addr.Is4() {
			network = "tcp4"
		}
		for _, port := range []uint16{443, 80, 6379} {
			err := newDialer(allow).Control(network, netip.AddrPortFrom(addr, port).String(), nil)
			if (err == nil) != c.ok || (err != nil && !errors.Is(err, errRefused)) {
				t.Errorf("dialing %s port %d, allowed %s: %v: %s", c.addr, port, c.allow, err, c.what)
			}
		}
	}
	if Allowed(netip.Addr{}, prefixes("0.0.0.0/0", "::/0")) {
		t.Error("the zero address is allowed")
	}
}

func TestGuardWantsTCPAndAnAddress(t *testing.T) {
	control := newDialer(nil).Control
	for _, c := range [][2]string{
		{"udp4", "8.8.8.8:53"}, {"unix", "/run/docker.sock"}, {"tcp", "8.8.8.8:443"},
		{"tcp4", "bank.example:443"}, {"tcp4", "8.8.8.8"}, {"tcp4", ""}, {"tcp4", "0177.0.0.1:80"},
	} {
		if err := control(c[0], c[1], nil); !errors.Is(err, errRefused) {
			t.Errorf("%s %q: %v", c[0], c[1], err)
		}
	}
}

// A name that was harmless when it was asked first and is not any more.
func TestNameThatChangesItsAnswer(t *testing.T) {
	got := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Host }))
	defer receiver.Close()
	_, port, _ := net.SplitHostPort(receiver.Listener.Addr().String())

	names := &nameServer{}
	dialer := newDialer(prefixes("127.0.0.0/8"))
	dialer.Resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	client := newClient(dialer)
	send := func() Attempt {
		client.CloseIdleConnections() // a kept connection was judged already
		s := Sender{Client: client}
		return s.Send(t.Context(), Endpoint{URL: "http://hooks.bank.example:" + port + "/", Secrets: secretsOf(t, vectorSecret)}, Message{"evt_1", []byte(`{}`)})
	}

	names.set("127.0.0.1")
	if a := send(); a.Outcome != Delivered || <-got != "hooks.bank.example:"+port {
		t.Fatalf("first answer: %+v", a)
	}
	for _, addr := range []string{"10.0.0.1", "169.254.169.254", "100.64.0.1"} {
		names.set(addr)
		a := send()
		if a.Outcome != Failed || a.Reason != ReasonRefused || !strings.Contains(a.Err.Error(), "refused address: "+addr) {
			t.Errorf("answer %s: %+v", addr, a)
		}
	}
	names.set("")
	if a := send(); a.Outcome != Failed || a.Reason != ReasonDNS || a.Err.Error() != "dns: no such host" {
		t.Errorf("no such name: %+v", a)
	}
	names.set("10.0.0.1", "127.0.0.1") // one bad address beside a good one harms nobody
	if a := send(); a.Outcome != Delivered {
		t.Errorf("second address: %+v", a)
	}
}

// nameServer answers every A question with its addresses, or that the name does not exist.
type nameServer struct {
	mu    sync.Mutex
	addrs []netip.Addr
}

func (n *nameServer) set(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = nil
	for _, a := range addrs {
		if a != "" {
			n.addrs = append(n.addrs, netip.MustParseAddr(a))
		}
	}
}

// dial answers in process; net.Pipe is no packet connection, so messages have DNS's TCP framing.
func (n *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			var size uint16
			if binary.Read(server, binary.BigEndian, &size) != nil {
				return
			}
			question := make([]byte, size)
			if _, err := io.ReadFull(server, question); err != nil {
				return
			}
			answer := n.answer(question)
			_, _ = server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		}
	}()
	return client, nil
}

func (n *nameServer) answer(q []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	end := 12 // after the header: the name's labels, then type and class
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5
	isA := binary.BigEndian.Uint16(q[end-4:]) == 1
	m := append([]byte{}, q[:2]...)
	m = append(m, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	m = append(m, q[12:end]...)
	if len(n.addrs) == 0 {
		m[3] |= 3 // NXDOMAIN
	}
	if isA {
		m[7] = byte(len(n.addrs))
		for _, a := range n.addrs {
			m = append(m, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			m = append(m, a.AsSlice()...)
		}
	}
	return m
}

func TestClientSettings(t *testing.T) {
	c := NewClient(nil)
	tr := c.Transport.(*http.Transport)
	if tr.Proxy != nil {
		t.Error("a proxy may be taken from the environment")
	}
	if !tr.DisableCompression || tr.DisableKeepAlives || tr.MaxIdleConnsPerHost != 16 || tr.TLSClientConfig.MinVersion != tls.VersionTLS12 {
		t.Errorf("transport: %+v", tr)
	}
	if tr.Protocols == nil || !tr.Protocols.HTTP1() || tr.Protocols.HTTP2() || tr.Protocols.UnencryptedHTTP2() {
		t.Error("not HTTP/1.1 alone")
	}
	if c.CheckRedirect == nil || c.CheckRedirect(nil, nil) != http.ErrUseLastResponse {
		t.Error("the client follows redirects")
	}
}
