package embedded_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// certificate makes the certificate of a server on loopback, and its key, in one
// file.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "host.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestServer_with_a_certificate_takes_no_other_client(t *testing.T) {
	file := certificate(t)
	raw := "embedded:?dir=" + url.QueryEscape(t.TempDir()) + "&listen=127.0.0.1:0&token=sesame&cert=" + url.QueryEscape(file)
	inside, err := driver.Open(t.Context(), raw) // the process's own connection needs no TLS
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inside.Close(t.Context()) }()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := embedded.ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), o) // the same server
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	at := s.ClientURL()
	if !strings.HasPrefix(at, "tls://") {
		t.Fatalf("it is at %s", at)
	}
	c, err := driver.Open(t.Context(), at+"?token=sesame&tls="+url.QueryEscape(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, query := range []string{"?token=sesame", "?token=other&tls=" + url.QueryEscape(file)} {
		if c, err := driver.Open(t.Context(), at+query); err == nil {
			_ = c.Close(t.Context())
			t.Errorf("a client came in with %s", query)
		} else if strings.Contains(err.Error(), "sesame") {
			t.Errorf("a token is shown: %v", err)
		}
	}
}
