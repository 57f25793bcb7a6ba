package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/nats-io/nats.go"

	_ "github.com/dovetail-go/dovetail/transport/filebus"          // file:
	_ "github.com/dovetail-go/dovetail/transport/membus"           // mem:
	_ "github.com/dovetail-go/dovetail/transport/natsbus"          // nats:
	_ "github.com/dovetail-go/dovetail/transport/natsbus/embedded" // embedded:
	_ "github.com/dovetail-go/dovetail/transport/rabbitbus"        // amqp:
)

// A target is an engine to measure on, with both sides.
type target struct {
	name   string
	kind   string // which of targetNames it is like, for goals; empty for others
	server string // what it says that it is
	url    string // of a broker or a database, for peers
	peers  []peerSide
	saved  string // what a confirmation stands for, on both sides
	ours   side
	raw    side // nil where there is nothing to compare with
	// durable is ours with requests that are kept; nil where nothing is.
	durable side
	close   func(ctx context.Context) error
}

// targetNames are those that are started here; any URL is a target as well.
var targetNames = []string{"mem", "embedded", "nats", "file", "rabbitmq", "kafka", "postgres", "sqlite"}

// kinds are the servers that package servers starts for targets. What is not
// installed is not installed by a measurement.
var kinds = map[string]servers.Kind{"rabbitmq": servers.RabbitMQ, "kafka": servers.Kafka, "postgres": servers.Postgres}

// everything is what "all" stands for: the targets that can be had here.
func everything() (names []string) {
	for _, name := range targetNames {
		if k := kinds[name]; k == nil || k.Installed() {
			names = append(names, name)
		}
	}
	return names
}

// What a confirmation stands for on brokers that are not asked for more.
const (
	savedRabbit = "quorum queue on one node: its log is synced before each confirmation"
	savedKafka  = "all replicas in sync, of one node: written to the file system, synced when the system sees fit"
)

// openTarget starts or reaches an engine. dir is an empty directory for what it
// keeps; envelope has the raw client send headers as ours does.
func openTarget(ctx context.Context, name, dir string, envelope bool) (*target, error) {
	t, err := openNamed(ctx, name, dir)
	if err == nil && envelope {
		if r, ok := t.raw.(enveloped); ok {
			r.carry()
		}
	}
	return t, err
}

func openNamed(ctx context.Context, name, dir string) (*target, error) {
	if isDatabase(name) {
		return openDatabase(ctx, name, dir)
	}
	switch name {
	case "mem":
		return openURL(ctx, name, name, "mem:bench?messages=4000000&bytes=8589934592", "nothing: memory of this process")
	case "embedded":
		return openURL(ctx, name, name, "embedded:?dir="+escape(filepath.Join(dir, "embedded")), "written to the file system; fsync every 2 min; server in this process")
	case "file":
		return openURL(ctx, name, name, "file:"+escape(filepath.Join(dir, "file")), "fdatasync before each confirmation")
	case "nats":
		server, err := startServer(ctx, filepath.Join(dir, "nats"))
		if err != nil {
			return nil, err
		}
		t, err := openURL(ctx, name, name, server.url, "written to the file system; fsync every 2 min; server in a process of its own")
		if err != nil {
			return nil, errors.Join(err, server.stop())
		}
		closeTarget := t.close
		t.close = func(ctx context.Context) error { return errors.Join(closeTarget(ctx), server.stop()) }
		return t, nil
	case "rabbitmq":
		return openServer(ctx, name, "", savedRabbit)
	case "kafka":
		return openServer(ctx, name, "?partitions=4", savedKafka)
	}
	return openURL(ctx, redacted(name), "", name, "as the server is set up")
}

// openServer starts a server for a target.
func openServer(ctx context.Context, name, parameters, saved string) (*target, error) {
	s, err := launch(ctx, name, kinds[name])
	if err != nil {
		return nil, err
	}
	t, err := openURL(ctx, name, name, s.URL()+parameters, saved)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	closeTarget := t.close
	t.close = func(ctx context.Context) error { return errors.Join(closeTarget(ctx), s.Close()) }
	t.server = name + " " + s.Version()
	return t, nil
}

func launch(ctx context.Context, name string, k servers.Kind) (*servers.Server, error) {
	if !k.Installed() {
		return nil, fmt.Errorf("%s is not installed here: install it (go run ./servers/cmd/servers install %s), or give the URL of one", name, k.Name())
	}
	return servers.Launch(ctx, k)
}

// escape makes a path part of a URL.
func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", "&", "%26", " ", "%20").Replace(path)
}

// openURL reaches an engine and holds it with a connection, so that it lasts
// between rounds.
func openURL(ctx context.Context, name, kind, address, saved string) (*target, error) {
	open := func(ctx context.Context) (driver.Conn, error) { return driver.Open(ctx, address) }
	hold, err := open(ctx)
	if err != nil {
		return nil, err
	}
	t := &target{name: name, kind: kind, saved: saved, url: address}
	if t.kind == "" {
		t.kind = kindOf[hold.Capabilities().Name]
	}
	both := ours{open: open, middleware: []dovetail.Middleware{pass, pass, pass}}
	t.ours = &both
	if hold.Capabilities().Durable {
		t.durable = &durable{both}
	}
	t.raw, err = rawOf(ctx, t, hold, address, open)
	if err != nil {
		return nil, errors.Join(err, hold.Close(ctx))
	}
	t.close = func(ctx context.Context) error {
		var errs []error
		if t.raw != nil {
			errs = append(errs, t.raw.close(ctx))
		}
		return errors.Join(append(errs, hold.Close(ctx))...)
	}
	return t, nil
}

// kindOf is the target that a transport is like.
var kindOf = map[string]string{"membus": "mem", "filebus": "file", "natsbus": "nats", "embedded": "embedded", "rabbitbus": "rabbitmq", "kafkabus": "kafka"}

// rawOf is the raw client of a transport, nil where this package knows none.
func rawOf(ctx context.Context, t *target, hold driver.Conn, address string, open func(context.Context) (driver.Conn, error)) (side, error) {
	switch hold.Capabilities().Name {
	case "rabbitbus":
		bare, _, _ := strings.Cut(address, "?")
		r, err := newRawRabbit(bare)
		if err != nil {
			return nil, err
		}
		return plain{r}, nil
	case "kafkabus":
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		o, err := kafkabus.ParseURL(u)
		if err != nil || o.TLS != nil || o.User != "" {
			return nil, err // with credentials, ours alone
		}
		r, err := newRawKafka(o.Brokers, o.Partitions)
		if err != nil {
			return nil, err
		}
		return plain{r}, nil
	case "membus":
		return rawMemory{}, nil
	case "filebus":
		dir, err := os.MkdirTemp("", "dovetail-bench-raw-")
		if err != nil {
			return nil, err
		}
		return &rawFile{dir: dir}, nil
	case "natsbus", "embedded":
		r, err := natsOf(ctx, open)
		if err != nil {
			return nil, err
		}
		t.server = "nats-server " + r.to.ConnectedServerVersion()
		return r, nil
	}
	return nil, nil
}

// natsOf is the client under two connections of ours.
func natsOf(ctx context.Context, open func(context.Context) (driver.Conn, error)) (*rawNATS, error) {
	var r rawNATS
	var held []driver.Conn
	r.done = func(ctx context.Context) (err error) {
		for _, c := range held {
			err = errors.Join(err, c.Close(ctx))
		}
		return err
	}
	for _, nc := range []**nats.Conn{&r.from, &r.to} {
		c, err := open(ctx)
		if err != nil {
			return nil, errors.Join(err, r.done(ctx))
		}
		held = append(held, c)
		client, ok := c.(interface{ As(any) bool })
		if !ok || !client.As(nc) {
			return nil, errors.Join(fmt.Errorf("transport %s gives no way to its client", c.Capabilities().Name), r.done(ctx))
		}
	}
	return &r, nil
}

// redacted is what may be shown of a target: the URL without user and
// parameters, or the name of a transport as it is.
func redacted(target string) string {
	if !strings.Contains(target, ":") {
		return target
	}
	return driver.Redact(target)
}
