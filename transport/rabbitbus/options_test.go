package rabbitbus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

func parse(t testing.TB, raw string) (rabbitbus.Options, error) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return rabbitbus.ParseURL(u)
}

func TestParseURL_reads_every_option(t *testing.T) {
	o, err := parse(t, "amqp://me:secret@a:1/shop%2Feast?servers=b:2,c&name=n&timeout=3s&heartbeat=2s&queues=classic&partitions=4&max-length=9"+
		"&max-bytes=1000&prefetch=7&in-flight=8&expire=1m&ack-timeout=2h&management=http://m:15672")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.Servers, ",") != "a:1,b:2,c:5672" || o.User != "me" || o.Password != "secret" || o.VHost != "shop/east" || o.Name != "n" ||
		o.Timeout != 3*time.Second || o.Heartbeat != 2*time.Second || !o.Classic || o.Partitions != 4 || o.MaxLength != 9 || o.MaxBytes != 1000 ||
		o.Prefetch != 7 || o.InFlight != 8 || o.Expire != time.Minute || o.AckTimeout != 2*time.Hour || o.Management != "http://m:15672" || o.TLS != nil {
		t.Errorf("%+v", o)
	}
	if o, err := parse(t, "amqp://a:1,b:2,c:3/"); err != nil || strings.Join(o.Servers, ",") != "a:1,b:2,c:3" {
		t.Errorf("a list of servers: %+v, %v", o, err)
	}
	if o, err := parse(t, "amqp://a?ack-timeout=none"); err != nil || o.AckTimeout >= 0 {
		t.Errorf("no time-out: %+v, %v", o, err)
	}
	if o, err := parse(t, "amqps://a"); err != nil || o.TLS == nil || o.VHost != "" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestParseURL_names_what_it_cannot_read(t *testing.T) {
	for raw, part := range map[string]string{
		"amqp://a?queues=stream": "want quorum or classic", "amqp://a?colour=red": "colour", "amqp://a?timeout=-1s": "timeout", "amqp://a?ca=x": "amqps",
		"amqps://a?key=k": "give both", "amqp:a": "write amqp://host:port", "amqp://a?servers=u:p@b": "server 2 of the URL",
		"amqps://a?ca=/nowhere": "/nowhere", "amqp://a?partitions=many": "partitions",
	} {
		if _, err := parse(t, raw); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want an error that says %q", raw, err, part)
		}
	}
}

func TestConnect_names_the_option_that_is_wrong(t *testing.T) {
	for field, o := range map[string]rabbitbus.Options{
		"Heartbeat": {Heartbeat: 1500 * time.Millisecond}, "Timeout": {Timeout: -1}, "Partitions": {Partitions: 1000}, "MaxLength": {MaxLength: -1},
		"Servers has": {Servers: []string{"a:1,b:2"}}, "Servers": {Servers: []string{"a:port"}},
		"InFlight": {InFlight: -1}, "Expire": {Expire: 1}, "Prefetch": {Prefetch: 1 << 20}, "PipelineKeys": {MaxLength: 1, PipelineKeys: true},
	} {
		if _, err := rabbitbus.Connect(t.Context(), o); err == nil || !strings.Contains(err.Error(), "option "+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestClassify_tells_a_queue_whose_node_is_down_from_one_that_is_gone(t *testing.T) {
	c := new(rabbitbus.Conn)
	for reason, want := range map[string]driver.Kind{
		"NOT_FOUND - no queue 'orders' in vhost '/'":                                                      driver.NotFound,
		"NOT_FOUND - home node 'rabbit@a' of durable queue 'orders' in vhost '/' is down or inaccessible": driver.Retryable,
		"NOT_FOUND - queue 'orders' in vhost '/' process is stopped by supervisor":                        driver.Retryable,
	} {
		if got := c.Classify(&amqp.Error{Code: amqp.NotFound, Reason: reason, Server: true}); got != want {
			t.Errorf("%s is %v, want %v", reason, got, want)
		}
	}
}

func TestConnect_speaks_TLS(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	addr, ca := terminate(t, srv.Addr())
	o, err := parse(t, "amqps://guest:guest@"+addr+"?ca="+url.QueryEscape(ca))
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, o)
	s := newQueue(t, c, 10)
	if err := c.Send(within(t), numbered(s.Channel.Name, 10, 1)); err != nil {
		t.Fatal(err)
	}
	take(t, openReceiver(t, c, s), 10)
	o, err = parse(t, "amqps://guest:guest@"+addr)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := rabbitbus.Connect(within(t), o); err == nil {
		t.Error("a certificate of nobody knows whom is trusted")
		_ = c.Close(within(t))
	}
}

// terminate speaks TLS in front of a server and returns where, and a file with
// the certificate.
func terminate(t testing.TB, target string) (addr, ca string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			end := func() { _ = in.Close(); _ = out.Close() }
			stop := context.AfterFunc(ctx, end)
			wg.Go(func() { _, _ = io.Copy(out, in); end() })
			wg.Go(func() { _, _ = io.Copy(in, out); end(); stop() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); cancel(); wg.Wait() })
	return l.Addr().String(), ca
}

func Example() {
	// A service names the broker when it starts:
	//
	//	svc, err := dovetail.Open(ctx, "catalog", "amqp://guest:guest@127.0.0.1:5672/?partitions=8")
	//
	// The options can be given as such, too.
	c, err := rabbitbus.Connect(context.Background(), rabbitbus.Options{Servers: []string{"127.0.0.1:1"}, Partitions: 8, Timeout: time.Second})
	if err != nil {
		return // errors.Is(err, driver.ErrRetryable): nobody is there
	}
	defer c.Close(context.Background())
	_ = c.Provision(context.Background(), []driver.Channel{{Name: "orders"}}, nil)
}
