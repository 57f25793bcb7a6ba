package kafkabus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// ParseURL reads a URL of the form
//
//	kafka://[user:password@]host:port[?name=value&…]
//
// with the parameters brokers (more brokers, host:port with commas between; a
// URL has room for one port only, unless every host has one), name, mechanism
// (plain, scram-sha-256, scram-sha-512), tls (true, or the path of a file of
// certificate authorities), timeout, partitions, replicas, max-bytes, retention,
// compression, session-timeout, heartbeat, drain-timeout, max-ahead and
// metadata-age, which are the fields of [Options]. Any other parameter is an error.
func ParseURL(u *url.URL) (Options, error) {
	var o Options
	if u.Path != "" && u.Path != "/" {
		return o, fmt.Errorf("path %q: a Kafka URL has none", u.Path)
	}
	if u.User != nil {
		o.User = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	p := driver.ParamsOf(u)
	var err error
	if o.Brokers, err = driver.Servers(u, p.String("brokers", ""), "9092"); err != nil {
		return o, err
	}
	o.Name = p.String("name", "")
	o.Mechanism = Mechanism(strings.ToUpper(p.String("mechanism", "")))
	o.Compression = p.String("compression", "")
	p.Parse("tls", func(v string) (err error) { o.TLS, err = parseTLS(v); return err })
	for name, d := range map[string]*time.Duration{
		"timeout": &o.Timeout, "retention": &o.Retention, "session-timeout": &o.SessionTimeout, "heartbeat": &o.Heartbeat,
		"drain-timeout": &o.DrainTimeout, "metadata-age": &o.MetadataAge,
	} {
		p.Duration(name, d)
	}
	for name, n := range map[string]*int{
		"partitions": &o.Partitions, "replicas": &o.Replicas, "max-bytes": &o.MaxBytes, "max-ahead": &o.MaxAhead,
	} {
		p.Int(name, n, 1)
	}
	return o, p.Err()
}

// parseTLS reads "true", "false" or the path of a file of authorities.
func parseTLS(v string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if on, err := strconv.ParseBool(v); err == nil {
		if !on {
			return nil, nil
		}
		return c, nil
	}
	pem, err := os.ReadFile(v)
	if err != nil {
		return nil, fmt.Errorf("want true, false or the path of a file of authorities: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the file holds no certificate in PEM")
	}
	return c, nil
}

func init() {
	driver.Register("kafka", func(ctx context.Context, u *url.URL) (driver.Conn, error) {
		o, err := ParseURL(u)
		if err != nil {
			return nil, err
		}
		o.Logger = driver.Logger(ctx)
		return Connect(ctx, o)
	})
}
