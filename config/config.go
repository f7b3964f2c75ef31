// Package config reads the one YAML file that stepup runs from into plain structs.
//
// It is strict: a member it does not know, a value of another type, a file that is missing or a secret that others
// may read stops the start, and every mistake is told at once with its line and its remedy. It judges form and
// presence only. What is inside the secret files (keys, signing secrets) is judged by the packages that use it, and
// nothing here speaks to Redis, to a provider or to a receiver.
package config

import (
	"net/netip"
	"time"
)

// Config is the whole file with defaults applied and the files it names read.
type Config struct {
	// Development, when true, allows http:// and private addresses for providers and webhooks and the embedded Redis.
	// Never true where real people are asked.
	Development bool `yaml:"development"`

	Listen    Listen              `yaml:"listen"`
	Redis     Redis               `yaml:"redis"`
	Seal      Seal                `yaml:"seal"`
	Worker    Worker              `yaml:"worker"`
	Providers map[string]Provider `yaml:"providers"` // by name; at least one
	Callers   map[string]Caller   `yaml:"callers"`   // by name; at least one
	Webhooks  Webhooks            `yaml:"webhooks"`
	Limits    Limits              `yaml:"limits"`

	// ResultTTL is how long a result can be fetched after it is final: 1 s to 24 h, default 15 m.
	ResultTTL time.Duration `yaml:"result_ttl"`
	// PurgeOnDelivery drops the identity once every webhook with full or encrypted content has it. Every caller must have one.
	PurgeOnDelivery bool `yaml:"purge_on_delivery"`

	// AuditFile is where one JSON line per decision is added, with its folder; empty: none is kept. It is not read here.
	AuditFile string `yaml:"audit_file"`

	Telemetry Telemetry `yaml:"telemetry"`
}

// Listen is where the service answers.
type Listen struct {
	API    string `yaml:"api"`    // bank backends; default 127.0.0.1:8080
	Public string `yaml:"public"` // the provider fetches our public keys here; if empty, on the API listener
	Admin  string `yaml:"admin"`  // operators; default 127.0.0.1:8081. Off loopback AdminToken or AdminTLS.ClientCA must be set

	TLS      ServerTLS `yaml:"tls"`       // API listener; if empty, plain HTTP behind something that ends TLS
	AdminTLS ServerTLS `yaml:"admin_tls"` // admin listener

	// AdminToken guards the admin listener, beside AdminTLS.ClientCA. Without either, whoever reaches the listener is an
	// operator.
	AdminToken Secret `yaml:"admin_token_file"`
}

// ServerTLS is a listener's certificate, both parts PEM and matching, or neither.
type ServerTLS struct {
	Cert []byte `yaml:"cert_file"`
	Key  Secret `yaml:"key_file"`

	// ClientCA are the authorities, PEM, whose client certificates are believed; if empty, none is asked for. Who holds
	// one of their keys can speak as any caller with a certificate, on the admin listener as an operator.
	ClientCA []byte `yaml:"client_ca_file"`
}

// Redis is where everything is kept.
type Redis struct {
	// URL has one of the forms redis://host:port/db, rediss://host:port/db, unix:///path, redis-sentinel://h1,h2/master,
	// redis-cluster://h1,h2, or is the word embedded (development only). It never holds a user or a password.
	URL              string    `yaml:"url"`
	Username         string    `yaml:"username"`
	Password         Secret    `yaml:"password_file"`
	SentinelPassword Secret    `yaml:"sentinel_password_file"`
	TLS              ClientTLS `yaml:"tls"` // rediss, and Sentinel or Cluster where any of it is set

	// Shards is the number of key slots and poll queues, 1 to 64, default 8. It must never change while there is data.
	Shards int `yaml:"shards"`

	// WaitReplicas is how many replicas must have the three writes that cannot be had again before the service goes on:
	// 0 to 5, default 0, which waits for none. With 1, a failover loses neither who was asked nor what was answered.
	WaitReplicas int `yaml:"wait_replicas"`
}

// ClientTLS is how we trust a server (CA; if empty, the system's roots) and what we show it (Cert and Key, PEM).
type ClientTLS struct {
	CA   []byte `yaml:"ca_file"`
	Cert []byte `yaml:"cert_file"`
	Key  Secret `yaml:"key_file"`
}

// Seal names the keys under which personal data is kept in Redis.
type Seal struct {
	Keys Secret `yaml:"keys_file"` // must be set
}

// Worker bounds the work in flight.
type Worker struct {
	MaxInFlight      int `yaml:"max_in_flight"`       // step-ups polled by this process, default 10,000
	MaxInFlightTotal int `yaml:"max_in_flight_total"` // step-ups open over all processes, default 100,000; beyond it creates get 503
}

// Provider is one CIBA provider as we are registered with it.
type Provider struct {
	Issuer   string `yaml:"issuer"`    // must be set; https unless development
	Profile  string `yaml:"profile"`   // must be set: singpass or standard
	ClientID string `yaml:"client_id"` // must be set
	Keys     Secret `yaml:"keys_file"` // must be set; private JWKS: who holds it can speak as us

	// IDTokenEncrypted says that only encrypted ID tokens are accepted (`id_token: encrypted`, the default).
	IDTokenEncrypted bool `yaml:"id_token" words:"signed,encrypted"`
	// Audience of client assertions; the issuer if the file names none.
	Audience string `yaml:"audience"`
	// Bind, profile standard: "subject" when an ID token's sub must equal the login_hint, else empty.
	Bind string `yaml:"bind"`
	// Evidence keeps the inner signed ID token with the identity.
	Evidence bool `yaml:"evidence"`
	// NRICChecksum, profile singpass, refuses an NRIC or FIN whose check letter is wrong; default true.
	NRICChecksum bool `yaml:"nric_checksum"`
	// Algs are the only algorithms accepted in a token; defaults by profile.
	Algs Algs `yaml:"algs"`
	Poll Poll `yaml:"poll"`
	Rate Rate `yaml:"rate"`
	// CAPEM are the roots trusted for this provider instead of the system's; empty: the system's.
	CAPEM []byte `yaml:"ca_file"`
	// Paused refuses creates for this provider; nothing is sent.
	Paused bool `yaml:"paused"`
}

// Algs are JOSE algorithm names.
type Algs struct {
	Signing       []string `yaml:"signing"`
	KeyManagement []string `yaml:"key_management"`
	Content       []string `yaml:"content"`
}

// Poll is the rhythm of token requests.
type Poll struct {
	Interval time.Duration `yaml:"interval"` // when the provider names none: 1 s to 60 s, default 5 s (CIBA 7.3)
	Timeout  time.Duration `yaml:"timeout"`  // for one answer: 1 s to 40 s, default 40 s; singpass at least 30 s outside development (CIBA 10.1)
	Hold     time.Duration `yaml:"hold"`     // how long the provider may hold a request whose sender is gone: 0 s to 60 s
}

// Rate bounds what is sent to a provider, in requests a second over all processes: 0 to 100,000, default 0, which is no limit.
type Rate struct {
	BCAuth int `yaml:"bc_auth"` // questions
	Token  int `yaml:"token"`   // polls
}

// Caller is one bank backend.
type Caller struct {
	APIKeys Secret `yaml:"api_keys_file"` // hashes of the keys that are this caller
	// CertificateSANs are the names in a client certificate that are this caller, compared exactly: DNS names, URIs, e-mail
	// or IP addresses. A caller must have these or APIKeys; a name belongs to one caller.
	CertificateSANs []string `yaml:"certificate_sans"`

	Providers []string  `yaml:"providers"` // must name at least one; the caller may ask no other
	MayList   bool      `yaml:"may_list"`  // default false
	Paused    bool      `yaml:"paused"`
	Webhooks  []Webhook `yaml:"webhooks"` // may be empty: the caller then asks for its results
}

// Webhook is one receiver of a caller's events: of signed requests to URL, or with Pull of what the caller fetches itself.
type Webhook struct {
	Name   string   `yaml:"name"`   // must be set, unique within the caller
	Events []string `yaml:"events"` // default step_up.*

	// Content is full (default); reference, without personal data; or encrypted, so that the receiver alone can read what is
	// personal.
	Content string `yaml:"content"`
	// EncryptTo is the receiver's public JSON Web Key Set, must be set with encrypted content and only there. What it holds
	// is not secret, but whoever may change the file reads what it encrypts from then on.
	EncryptTo []byte `yaml:"encrypt_to_file"`

	// Pull, default false: nothing is sent; the caller fetches these events and acknowledges them. What is below is then not
	// for this webhook.
	Pull bool `yaml:"pull"`

	URL     string `yaml:"url"`          // must be set; https unless development
	Secrets Secret `yaml:"secrets_file"` // must be set; all of them sign

	Headers Secret    `yaml:"headers_file"` // more headers of every request, `Name: value` lines
	TLS     ClientTLS `yaml:"tls"`          // for https URLs
	// Proxy is an egress proxy, http or https, without a path, a user or a password; empty: none, whatever the environment
	// says. For https URLs. Its address must be one that webhooks may reach; which receivers it reaches is its to judge.
	Proxy string `yaml:"proxy"`
}

// Webhooks holds for all webhooks.
type Webhooks struct {
	// AllowNetworks may be reached besides the public internet. In development, if the file names none: loopback and the
	// private networks.
	AllowNetworks []netip.Prefix `yaml:"allow_networks"`
	Timeout       time.Duration  `yaml:"timeout"` // for one attempt: 1 s to 60 s, default 15 s
}

// Limits are refused before anything is sent.
type Limits struct {
	PerPerson PersonLimits `yaml:"per_person"`
	PerCaller CallerLimits `yaml:"per_caller"`
}

// PersonLimits hold for one login hint at one provider over all callers: they stop push bombing.
type PersonLimits struct {
	InFlight int `yaml:"in_flight"` // default 1
	PerHour  int `yaml:"per_hour"`  // default 10
}

// CallerLimits hold for one caller.
type CallerLimits struct {
	Rate  int `yaml:"rate"`  // creates a second, default 50
	Burst int `yaml:"burst"` // default 100

	// PersonsPerHour is how many different persons it may ask within an hour, refusals counted; default 0, which is no limit.
	PersonsPerHour int `yaml:"persons_per_hour"`
}

// Telemetry is where traces and metrics are sent. Metrics are on the admin listener's /metrics all the same.
type Telemetry struct {
	// OTLPEndpoint is the URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; the paths
	// /v1/traces and /v1/metrics are added. If empty, the standard OTEL_EXPORTER_OTLP_ variables decide; without them nothing
	// is sent. What is sent holds nothing personal, but whoever reads it sees how often callers ask and what became of it.
	OTLPEndpoint string `yaml:"otlp_endpoint"`
}
