package outrigger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	defaultAddress = "127.0.0.1:9911"
	defaultTimeout = 2 * time.Second
	defaultOwner   = "sdk"

	// A longer file is none of a token.
	maxToken = 4096
)

// Option is a setting of [Dial].
type Option func(*config)

type config struct {
	address string
	token   token
	tls     *tls.Config
	timeout time.Duration
	owner   string
}

// defaults are what the environment says, or else what the sidecar's own defaults fit.
func defaults() config {
	c := config{address: os.Getenv("OUTRIGGER_CONTROL"), timeout: defaultTimeout, owner: defaultOwner}
	if c.address == "" {
		c.address = defaultAddress
	}
	if path := os.Getenv("OUTRIGGER_CONTROL_TOKEN_FILE"); path != "" {
		WithTokenFile(path)(&c)
	}
	return c
}

// WithAddress says where the sidecar's control API is: `unix:PATH` or `HOST:PORT`.
func WithAddress(address string) Option {
	return func(c *config) { c.address = address }
}

// WithToken sends this bearer token with each call.
func WithToken(value string) Option {
	return func(c *config) { c.token = func() (string, error) { return value, nil } }
}

// WithTokenFile sends the token that the file has at the time of each call, white space around it left out. The
// default is the file that the environment variable OUTRIGGER_CONTROL_TOKEN_FILE names, or none.
func WithTokenFile(path string) Option {
	return func(c *config) { c.token = func() (string, error) { return readToken(path) } }
}

// WithTLS speaks TLS; certificates of the client are part of its configuration.
func WithTLS(settings *tls.Config) Option {
	return func(c *config) { c.tls = settings.Clone() }
}

// WithTimeout is how long a call may take whose context has no deadline; the default is 2 s.
func WithTimeout(timeout time.Duration) Option {
	return func(c *config) { c.timeout = timeout }
}

// WithOwner is what the app calls itself: shown beside its orders and in events. 1 to 64 printable ASCII characters
// without spaces, `admin` and `fleet` excepted; the default is `sdk`.
func WithOwner(owner string) Option {
	return func(c *config) { c.owner = owner }
}

// target is the address as gRPC writes it.
func (c config) target() (string, error) {
	if path, isUnix := strings.CutPrefix(c.address, "unix:"); isUnix {
		if path == "" {
			return "", fmt.Errorf("address %q: want unix:PATH", c.address)
		}
		return c.address, nil
	}
	host, port, err := net.SplitHostPort(c.address)
	if err != nil || host == "" || port == "" {
		return "", fmt.Errorf("address %q: want unix:PATH or HOST:PORT", c.address)
	}
	if c.token != nil && c.tls == nil && !isLoopback(host) {
		return "", fmt.Errorf("address %q: a token is sent without TLS to this machine only", c.address)
	}
	// The dialer resolves names at each connection, and needs no resolver's watch for that.
	return "passthrough:///" + c.address, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// token gives the bearer token of a call; it implements credentials.PerRPCCredentials.
type token func() (string, error)

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	value, err := t()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + value}, nil
}

// RequireTransportSecurity is false since config.target has judged it, and knows of this machine's own addresses.
func (t token) RequireTransportSecurity() bool {
	return false
}

func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	value := strings.TrimSpace(string(content))
	if value == "" || len(content) > maxToken {
		return "", errors.New("token: " + path + ": want 1 to 4096 bytes")
	}
	return value, nil
}
