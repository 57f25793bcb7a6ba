package pgstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/store/pgstore"
)

func TestOpen_refuses_a_URL_that_contradicts_itself_and_shows_no_secret(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	for url, want := range map[string]string{
		"postgres://127.0.0.1:1/x?sslmode=verify-full;x=sesame":               "semicolon",
		"postgres://127.0.0.1:1/x?sslmode=disable&sslmode=verify-full":        "twice",
		"postgres://127.0.0.1:1/x?sslmod=sesame":                              "unknown parameter",
		"postgres://127.0.0.1:1/x?sslrootcert=" + ca:                          "allows a connection without TLS",
		"postgres://127.0.0.1:1/x?sslmode=disable&sslrootcert=" + ca:          "allows a connection without TLS",
		"postgres://u:sesame@127.0.0.1:1/x?password=sesame":                   "give it once",
		"postgres://u@127.0.0.1:1/x?sslmode=no&sslpassword=sesame":            "sslmode",
		"postgres://u@127.0.0.1:1/x?pool_max_conns=many&sslpassword=sesame":   "pool_max_conns",
		"postgres://u:se/same@127.0.0.1:1/x":                                  "parse",
		"host=127.0.0.1 port=x password=sesame":                               "port",
		"host=127.0.0.1 password='ses ame' sslpassword=sesame sslmode=sesame": "TLS",
		"host=127.0.0.1 password 'sesame'":                                    "keyword",
	} {
		s, err := pgstore.Open(t.Context(), url)
		if err == nil {
			must(t, s.Close())
			t.Errorf("%s was opened", url)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "ses ame") {
			t.Errorf("%s: %v, want an error that says %q and has no secret", url, err, want)
		}
	}
	if _, err := pgstore.ParseConfig("postgres://u:p@127.0.0.1:1/x?sslmode=verify-full&application_name=a&pool_max_conns=3&sslrootcert=" + ca); err != nil {
		t.Error(err)
	}
}

func TestParseConfig_reads_the_servers_of_a_pair(t *testing.T) {
	config, err := pgstore.ParseConfig("postgres://u@a:1,b:2/x?sslmode=disable&target_session_attrs=read-write&connect_timeout=2&pool_ping_timeout=2s")
	must(t, err)
	c := config.ConnConfig
	if c.Host != "a" || c.Port != 1 || len(c.Fallbacks) != 1 || c.Fallbacks[0].Host != "b" || c.Fallbacks[0].Port != 2 {
		t.Errorf("servers %s:%d and %+v", c.Host, c.Port, c.Fallbacks)
	}
	if c.ValidateConnect == nil || c.ConnectTimeout != 2*time.Second || config.PingTimeout != 2*time.Second {
		t.Errorf("read-write %v, connect in %v, ping in %v", c.ValidateConnect != nil, c.ConnectTimeout, config.PingTimeout)
	}
}
