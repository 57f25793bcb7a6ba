package kafkabus_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMain ends the server that the tests share. Those that leave it running and
// have channels of their own run in parallel, and what they leave behind is
// found at the end.
func TestMain(m *testing.M) {
	os.Exit(leak.Main(drivertest.Main(servers.Main(m))))
}

// broker is the address of a server.
func broker(s *servers.Server) string { return strings.TrimPrefix(s.URL(), "kafka://") }

// options are those of tests: an instance that died is noticed as soon as the
// server allows, and a rebalance at once.
func options(s *servers.Server) kafkabus.Options {
	return kafkabus.Options{
		Brokers: []string{broker(s)}, SessionTimeout: 6 * time.Second, Heartbeat: 100 * time.Millisecond, MetadataAge: time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func connect(t testing.TB, o kafkabus.Options) *kafkabus.Conn {
	t.Helper()
	c, err := kafkabus.Connect(context.Background(), o)
	for end := time.Now().Add(patience); driver.Classify(err) == driver.Retryable && time.Now().Before(end); { // a server that is slow to answer
		c, err = kafkabus.Connect(context.Background(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// plain is the client alone, as a program without Dovetail uses it.
func plain(t testing.TB, s *servers.Server, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker(s))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseAllowingRebalance)
	return c
}

// A lifeline dials for one connection of ours until it is cut, which is what the
// server sees of a process that was killed.
type lifeline struct {
	mu    sync.Mutex
	conns []net.Conn
	dead  bool
	to    string // everything goes there, whatever the server advertises; empty: as it says
}

func (l *lifeline) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.to != "" {
		addr = l.to
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		_ = c.Close()
		return nil, errors.New("this process is dead")
	}
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *lifeline) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// forget makes the server lose every topic and group.
func forget(ctx context.Context, s *servers.Server) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(broker(s)))
	if err != nil {
		return err
	}
	defer c.Close()
	adm := kadm.NewClient(c)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	_, err = adm.DeleteTopics(ctx, topics.Names()...)
	groups, gerr := adm.ListGroups(ctx)
	if gerr == nil {
		_, gerr = adm.DeleteGroups(ctx, groups.Groups()...)
	}
	return errors.Join(err, gerr)
}

func provision(t testing.TB, c *kafkabus.Conn, ch driver.Channel, subs ...driver.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.Provision(ctx, []driver.Channel{ch}, subs)
	for c.Classify(err) == driver.Retryable && ctx.Err() == nil { // a server that is slow to answer
		err = c.Provision(ctx, []driver.Channel{ch}, subs)
	}
	if err != nil {
		t.Fatal(err)
	}
}
