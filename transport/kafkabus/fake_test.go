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
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The tests of this file run against kfake, which is a fake in the process: the
// real server of the other tests has neither TLS nor credentials, and cannot be
// told to answer one kind of request with an error.

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
		u := url.URL{Scheme: "kafka", Host: fake.ListenAddrs()[0], User: url.UserPassword(user, password), RawQuery: query}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
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
	trust := "timeout=30s&tls=" + url.QueryEscape(ca)
	for _, good := range [][3]string{
		{"plain", "secret-1", ""}, {"scram256", "secret-2", "&mechanism=scram-sha-256"}, {"scram512", "secret-3", "&mechanism=SCRAM-SHA-512"},
	} {
		if err := open(good[0], good[1], trust+good[2]); err != nil {
			t.Errorf("%s: %v", good[0], err)
		}
	}
	// The fake hangs up where Kafka says why; what Kafka says is in TestClassify….
	if err := open("plain", "wrong-password", "timeout=2s&tls="+url.QueryEscape(ca)); err == nil {
		t.Error("a wrong password was let in")
	}
	if err := open("plain", "secret-1", "timeout=2s&tls=true"); err == nil {
		t.Error("a certificate of nobody's was trusted")
	}
}

// While commits fail, no more is handed out than a crash may repeat; and it goes
// on when they succeed again.
func TestFake_receiver_waits_while_commits_fail(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	const ahead, window, n = 60, 20, 500
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 3 * time.Second, Heartbeat: 100 * time.Millisecond, MaxAhead: ahead})
	sub := subscription("uncommitted", 1)
	sub.Window = window
	provision(t, c, sub.Channel, sub)
	if err := c.Send(t.Context(), numberedAll(sub.Channel.Name, n, 1)); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	ack(t, r, receive(t, r, 1)...)
	var failing atomic.Bool
	failing.Store(true)
	fake.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if !failing.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range req.(*kmsg.OffsetCommitRequest).Topics {
			st := kmsg.NewOffsetCommitResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewOffsetCommitResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.InvalidCommitOffsetSize.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	got, told := 1, false
	for {
		ds, err := r.Receive(t.Context(), 10)
		if err != nil {
			told = true
			break
		}
		for _, d := range ds {
			if err := r.Settle(t.Context(), []driver.Settlement{{Delivery: d}}); err != nil {
				told = true
			}
		}
		if got += len(ds); got > n/2 {
			t.Fatalf("%d messages were handed out while no commit succeeded, want at most %d", got, ahead+window)
		}
	}
	if got > ahead+window {
		t.Errorf("%d messages were handed out while no commit succeeded, want at most %d", got, ahead+window)
	}
	if !told {
		t.Error("nobody was told that commits failed")
	}
	failing.Store(false)
	for got < n {
		ds := receive(t, r, 1)
		if want := strconv.Itoa(got); string(ds[0].Message.Body) != want {
			t.Fatalf("got %s, want %s", ds[0].Message.Body, want)
		}
		ack(t, r, ds...)
		got++
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
