package real

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

func TestTokens(t *testing.T) {
	secret := strings.Repeat("s", 40)
	file := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(file, []byte(secret), 0o600))
	s := startWith(t, fmt.Sprintf("listen = \"127.0.0.1:0\"\ntoken_file = %q", file))
	_, err := s.client(outrigger.WithTokenFile(file)).Clusters(t.Context(), "")
	must(t, err)
	for _, options := range [][]outrigger.Option{nil, {outrigger.WithToken(secret[1:] + "t")}} {
		client := s.client(options...)
		if _, err := client.Clusters(t.Context(), ""); !errors.Is(err, outrigger.ErrDenied) {
			t.Errorf("without the token: %v", err)
		}
		if _, err := client.OpenLease(t.Context()); !errors.Is(err, outrigger.ErrDenied) {
			t.Errorf("without the token: %v", err)
		}
		for view, err := range client.Watch(t.Context(), "api") {
			if view != nil || !errors.Is(err, outrigger.ErrDenied) {
				t.Errorf("without the token: %v, %v", view, err)
			}
		}
	}
}

func TestTLSWithCertificatesOfTheClient(t *testing.T) {
	dir := t.TempDir()
	authority := newAuthority(t)
	ca, certificate, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	own := authority.issue(t, certificate, key)
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.certificate.Raw}), 0o600))
	s := startWith(t, fmt.Sprintf("listen = \"127.0.0.1:0\"\ncert_file = %q\nkey_file = %q\nclient_ca_file = %q",
		certificate, key, ca))

	roots := x509.NewCertPool()
	roots.AddCert(authority.certificate)
	with := outrigger.WithTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}})
	_, err := s.client(with).Clusters(t.Context(), "")
	must(t, err)
	for name, settings := range map[string]*tls.Config{
		"without a certificate":       {RootCAs: roots},
		"without trust":               {Certificates: []tls.Certificate{own}},
		"without TLS":                 nil,
		"under another name":          {RootCAs: roots, Certificates: []tls.Certificate{own}, ServerName: "sidecar"},
		"with a stranger's authority": {RootCAs: roots, Certificates: []tls.Certificate{newAuthority(t).issue(t, "", "")}},
	} {
		client := s.client(outrigger.WithTLS(settings))
		if _, err := client.Clusters(t.Context(), ""); !errors.Is(err, outrigger.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	template := template("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return authority{certificate, key}
}

// issue makes a pair for either side of a connection on loopback, and writes it to these files if they have names.
func (a authority) issue(t *testing.T, certificateFile, keyFile string) tls.Certificate {
	template := template("127.0.0.1")
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if certificateFile != "" {
		must(t, os.WriteFile(certificateFile, certificate, 0o600))
		must(t, os.WriteFile(keyFile, key, 0o600))
	}
	pair, err := tls.X509KeyPair(certificate, key)
	must(t, err)
	return pair
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}
