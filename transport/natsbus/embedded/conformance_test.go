package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestConformance_listening runs the suite against a server in a process of its
// own, which is killed and started again.
func TestConformance_listening(t *testing.T) {
	server := newChild(t)
	drivertest.Run(t, harness(server, natsbus.Options{}))
}

// TestConformance_partitions_listening runs it with partitions that have an owner
// at a time.
func TestConformance_partitions_listening(t *testing.T) {
	server := newChild(t)
	drivertest.Run(t, harness(server, natsbus.Options{Partitions: 3, OwnerTTL: time.Second}))
}

// harness is a server for the suite.
func harness(server *child, o natsbus.Options) drivertest.Harness {
	o.URL, o.AckWait, o.Logger = server.url(), 3*time.Second, quiet
	open := func(ctx context.Context, change func(*natsbus.Options)) (driver.Conn, error) {
		o := o
		change(&o)
		return natsbus.Connect(ctx, o)
	}
	return drivertest.Harness{
		Crash: crash,
		Addr:  server.listen,
		Through: func(ctx context.Context, addr string) (driver.Conn, error) {
			return open(ctx, func(o *natsbus.Options) { o.URL, o.Timeout = "nats://"+addr, 2*time.Second })
		},
		Full: func(ctx context.Context) (driver.Conn, error) {
			return open(ctx, func(o *natsbus.Options) { o.MaxBytes = roomFor250 })
		},
		Patience: time.Minute, // the machine may be busy
		Open:     func(ctx context.Context) (driver.Conn, error) { return natsbus.Connect(ctx, o) },
		Restart:  server.restart,
		KnownGaps: map[string]string{
			"URL": "natsbus's own tests have it", "InjectKeyed": "messages have no key of the server's", "Trim": "a purge moves every consumer to the end of the stream, and the server tells nobody; nothing else deletes",
		},
		Forget: func(ctx context.Context) error {
			return plain(server.url(), nil, func(nc *nats.Conn, js jetstream.JetStream) error { return forget(ctx, js) })
		},
		Inject: func(_ context.Context, channel string, headers driver.Headers, body []byte) error {
			return plain(server.url(), nil, func(nc *nats.Conn, js jetstream.JetStream) error { return inject(nc, channel, headers, body) })
		},
	}
}

// roomFor250 is a bound for a channel, in bytes: some 250 messages.
const roomFor250 = 64 << 10

// crash ends a connection as the death of its process would.
func crash(c driver.Conn) error {
	var nc *nats.Conn
	if as, ok := c.(interface{ As(any) bool }); !ok || !as.As(&nc) {
		return errors.New("no client underneath")
	}
	nc.Close()
	return nil
}

// TestConformance_in_process runs it against a server in this process that does
// not listen. The server ends with each test's last connection, and the next
// test's first finds what was stored. Partitions are tried against the server that
// listens: what their owners do lies between them and it.
func TestConformance_in_process(t *testing.T) {
	drivertest.Run(t, inProcess(t))
}

// inProcess is a server in this process for the suite.
func inProcess(t *testing.T) drivertest.Harness {
	logVersion(t)
	o := natsbus.Options{AckWait: 3 * time.Second, Logger: quiet}
	dir := t.TempDir()
	open := func(ctx context.Context) (*embedded.Conn, error) {
		return embedded.Open(ctx, embedded.Options{Dir: dir, Logger: quiet}, o)
	}
	small := o
	small.MaxBytes = roomFor250
	use := func(ctx context.Context, do func(nc *nats.Conn, js jetstream.JetStream) error) error {
		c, err := open(ctx)
		if err != nil {
			return err
		}
		var nc *nats.Conn
		var js jetstream.JetStream
		if !c.As(&nc) || !c.As(&js) {
			return errors.New("no client underneath")
		}
		return errors.Join(do(nc, js), c.Close(ctx))
	}
	return drivertest.Harness{
		Patience:  time.Minute, // the machine may be busy
		Open:      func(ctx context.Context) (driver.Conn, error) { return open(ctx) },
		InProcess: true,
		KnownGaps: map[string]string{
			"Restart": "the server ends with this process", "URL": "the server is this process's", "Through": "there is no link",
			"InjectKeyed": "messages have no key of the server's", "Trim": "a purge moves every consumer to the end of the stream, and the server tells nobody; nothing else deletes",
		},
		Full: func(ctx context.Context) (driver.Conn, error) {
			return embedded.Open(ctx, embedded.Options{Dir: dir, Logger: quiet}, small)
		},
		Forget: func(ctx context.Context) error {
			return use(ctx, func(_ *nats.Conn, js jetstream.JetStream) error { return forget(ctx, js) })
		},
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			return use(ctx, func(nc *nats.Conn, _ jetstream.JetStream) error { return inject(nc, channel, headers, body) })
		},
	}
}

// plain uses the server as a program does that knows nothing of Dovetail.
func plain(url string, options []nats.Option, use func(*nats.Conn, jetstream.JetStream) error) error {
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return use(nc, js)
}

func forget(ctx context.Context, js jetstream.JetStream) error {
	names := js.StreamNames(ctx)
	var all []string
	for name := range names.Name() {
		all = append(all, name)
	}
	for _, name := range all {
		if err := js.DeleteStream(ctx, name); err != nil {
			return err
		}
	}
	return names.Err()
}

func inject(nc *nats.Conn, channel string, headers driver.Headers, body []byte) error {
	m := nats.NewMsg(channel + ".p0")
	for _, h := range headers {
		if strings.ContainsAny(h.Value, "\r\n") {
			return fmt.Errorf("a line break in a header is %w", driver.ErrUnsupported)
		}
		m.Header.Add(h.Name, h.Value)
	}
	m.Data = body
	if err := nc.PublishMsg(m); err != nil {
		return err
	}
	return nc.Flush()
}
