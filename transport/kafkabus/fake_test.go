package kafkabus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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
	"github.com/twmb/franz-go/pkg/kfake"
)

// The tests of this file run against kfake, which is a fake in the process: the
// real server of the other tests has neither TLS nor credentials.

func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

func TestFake_TLS_and_credentials_by_URL(t *testing.T) {
	cert, ca := certificate(t)
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "plain", "secret-1"), kfake.Superuser("SCRAM-SHA-256", "scram256", "secret-2"),
		kfake.Superuser("SCRAM-SHA-512", "scram512", "secret-3"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	open := func(user, password, query string) error {
		u := url.URL{Scheme: "kafka", Host: fake.ListenAddrs()[0], User: url.UserPassword(user, password), RawQuery: "timeout=3s&" + query}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := driver.Open(ctx, u.String())
		if err != nil {
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error tells the password: %v", err)
			}
			return err
		}
		if err := c.Provision(ctx, []driver.Channel{{Name: "secured"}}, nil); err != nil {
			t.Errorf("provision as %s: %v", user, err)
		}
		if err := c.Send(ctx, []*driver.Message{{Channel: "secured", ID: "1"}}); err != nil {
			t.Errorf("send as %s: %v", user, err)
		}
		return c.Close(ctx)
	}
	trust := "tls=" + url.QueryEscape(ca)
	for _, good := range [][3]string{
		{"plain", "secret-1", ""}, {"scram256", "secret-2", "&mechanism=scram-sha-256"}, {"scram512", "secret-3", "&mechanism=SCRAM-SHA-512"},
	} {
		if err := open(good[0], good[1], trust+good[2]); err != nil {
			t.Errorf("%s: %v", good[0], err)
		}
	}
	// The fake hangs up where Kafka says why; what Kafka says is in TestClassify….
	if err := open("plain", "wrong-password", trust); err == nil {
		t.Error("a wrong password was let in")
	}
	if err := open("plain", "secret-1", "tls=true"); err == nil {
		t.Error("a certificate of nobody's was trusted")
	}
}
