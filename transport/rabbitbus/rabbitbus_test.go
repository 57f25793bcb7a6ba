package rabbitbus_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil { // see TestBeside_each_other
		panic(err)
	}
	os.Exit(drivertest.Main(servers.Main(m)).Run())
}

// optionsFor are what reaches a server.
func optionsFor(t testing.TB, srv *servers.Server) rabbitbus.Options {
	t.Helper()
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	o, err := rabbitbus.ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	o.Management = "http://127.0.0.1:" + managementPort(t, srv)
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

// managementPort finds the management plugin in the server's configuration.
func managementPort(t testing.TB, srv *servers.Server) string {
	t.Helper()
	conf, err := os.ReadFile(filepath.Join(srv.Dir(), "rabbitmq.conf"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`management\.tcp\.port = (\d+)`).FindSubmatch(conf)
	if m == nil {
		t.Fatal("the server has no management plugin")
	}
	return string(m[1])
}

// tryConnect connects, if need be after some tries: Connect makes one.
func tryConnect(t testing.TB, o rabbitbus.Options) *rabbitbus.Conn {
	t.Helper()
	for ctx := within(t); ; pause(ctx, 100*time.Millisecond) {
		c, err := rabbitbus.Connect(ctx, o)
		if err == nil {
			return c
		}
		if !errors.Is(err, driver.ErrRetryable) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func connect(t testing.TB, o rabbitbus.Options) *rabbitbus.Conn {
	t.Helper()
	c := tryConnect(t, o)
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// dial is a plain client's connection.
func dial(t testing.TB, srv *servers.Server) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
			t.Error(err)
		}
	})
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// withChannel runs f on a channel of a plain client.
func withChannel(srv *servers.Server, f func(*amqp.Channel) error) error {
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = f(ch)
	}
	return errors.Join(err, conn.Close())
}

// harness is a server for the conformance suite.
func harness(t testing.TB, srv *servers.Server, change func(*rabbitbus.Options)) drivertest.Harness {
	o := optionsFor(t, srv)
	change(&o)
	queue := func(channel string) string {
		if o.Partitions > 0 {
			return channel + "#0"
		}
		return channel
	}
	open := func(ctx context.Context, change func(*rabbitbus.Options)) (driver.Conn, error) {
		o := o
		change(&o)
		return rabbitbus.Connect(ctx, o)
	}
	inject := func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
		table := amqp.Table{}
		for _, h := range headers {
			table[h.Name] = h.Value
		}
		return withChannel(srv, func(ch *amqp.Channel) error {
			return ch.PublishWithContext(ctx, "", queue(channel), true, false, amqp.Publishing{Headers: table, Body: body})
		})
	}
	return drivertest.Harness{
		Patience:  patience, // a restart takes long on a busy machine
		Open:      func(ctx context.Context) (driver.Conn, error) { return rabbitbus.Connect(ctx, o) },
		KnownGaps: map[string]string{"Trim": "a queue has no positions that could be lost"},
		URL:       fmt.Sprintf("%s?partitions=%d", srv.URL(), o.Partitions),
		Addr:      srv.Addr(),
		Through: func(ctx context.Context, addr string) (driver.Conn, error) {
			return open(ctx, func(o *rabbitbus.Options) { by(o, addr) })
		},
		Full: func(ctx context.Context) (driver.Conn, error) {
			return open(ctx, func(o *rabbitbus.Options) { o.MaxLength = int64(20 / max(1, o.Partitions)) })
		},
		// The server has no keys; a program can put any bytes where ours are.
		InjectKeyed: func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error {
			return inject(ctx, channel, append(driver.Headers{{Name: "cloudEvents_partitionkey", Value: string(key)}}, headers...), body)
		},
		Inject:  inject,
		Restart: func(ctx context.Context) error { return restart(ctx, srv) },
		Forget:  func(ctx context.Context) error { return forget(ctx, srv, o) },
	}
}

// restart kills the server and starts it again, a second after what was
// declared last: RabbitMQ 3.10 does not sync what it knows of a new quorum
// queue at once, and killed before has one that never elects a leader.
func restart(ctx context.Context, srv *servers.Server) error {
	select {
	case <-time.After(1200 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	return srv.Restart(ctx)
}

// forget deletes every queue and exchange, as somebody with the server's tools
// might.
func forget(ctx context.Context, srv *servers.Server, o rabbitbus.Options) error {
	c, err := rabbitbus.Connect(ctx, o)
	if err != nil {
		return err
	}
	infos, err := c.Channels(ctx)
	for _, info := range infos {
		gone := c.RemoveChannel(ctx, info.Channel.Name)
		for errors.Is(gone, driver.ErrRetryable) && ctx.Err() == nil { // the server may be busy
			gone = c.RemoveChannel(ctx, info.Channel.Name)
		}
		if !errors.Is(gone, driver.ErrNotFound) {
			err = errors.Join(err, gone)
		}
	}
	return errors.Join(err, c.Close(ctx))
}

// looked is why a message that was browsed is not at its first attempt.
const looked = "looking at a message counts as a delivery: a quorum queue counts whatever comes back"

// noRestart leaves out what takes the server long and another run does.
func noRestart(h *drivertest.Harness) {
	h.Restart = nil
	h.KnownGaps["Restart"] = "it takes the server long: the suite does it with quorum queues, and Faults with partitions"
}

func TestRabbitbus_passes_the_conformance_suite(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart bool // each takes the server seconds
		change  func(*rabbitbus.Options)
	}{
		{"quorum", true, func(*rabbitbus.Options) {}},
		{"partitions", false, func(o *rabbitbus.Options) { o.Partitions = 4 }},
		{"classic", false, func(o *rabbitbus.Options) { o.Classic = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := servers.Shared(t, servers.RabbitMQ)
			h := harness(t, srv, c.change)
			if !c.restart || testing.Short() {
				noRestart(&h)
			}
			if c.name != "classic" {
				h.KnownGaps["Browser_pages_through_a_channel_and_consumes_nothing"] = looked
			}
			drivertest.Run(t, h)
		})
	}
}

func TestFaults_lose_and_invert_nothing(t *testing.T) {
	for name, partitions := range map[string]int{"quorum": 0, "partitions": 4} {
		t.Run(name, func(t *testing.T) {
			h := harness(t, servers.Shared(t, servers.RabbitMQ), func(o *rabbitbus.Options) { o.Partitions = partitions })
			if partitions == 0 {
				noRestart(&h)
			}
			drivertest.Faults(t, h)
		})
	}
}
