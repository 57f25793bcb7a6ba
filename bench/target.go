package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"

	_ "github.com/dovetail-go/dovetail/transport/filebus"          // file:
	_ "github.com/dovetail-go/dovetail/transport/membus"           // mem:
	_ "github.com/dovetail-go/dovetail/transport/natsbus"          // nats:
	_ "github.com/dovetail-go/dovetail/transport/natsbus/embedded" // embedded:
)

// A target is an engine to measure on, with both sides.
type target struct {
	name  string
	saved string // what a confirmation stands for, on both sides
	ours  side
	raw   side // nil where there is nothing to compare with
	// durable is ours with requests that are kept; nil where nothing is.
	durable side
	close   func(ctx context.Context) error
}

// targetNames are those that need no server; any URL is a target as well.
var targetNames = []string{"mem", "embedded", "nats", "file"}

// openTarget starts or reaches an engine. dir is an empty directory for what it
// keeps; envelope has the raw client send headers as ours does.
func openTarget(ctx context.Context, name, dir string, envelope bool) (*target, error) {
	t, err := openNamed(ctx, name, dir)
	if err == nil && envelope {
		if r, ok := t.raw.(*rawNATS); ok {
			r.envelope = envelopeOf()
		}
	}
	return t, err
}

func openNamed(ctx context.Context, name, dir string) (*target, error) {
	switch name {
	case "mem":
		return openURL(ctx, name, "mem:bench?messages=4000000&bytes=8589934592", "nothing: memory of this process")
	case "embedded":
		return openURL(ctx, name, "embedded:?dir="+escape(filepath.Join(dir, "embedded")), "written to the file system; fsync every 2 min; server in this process")
	case "file":
		return openURL(ctx, name, "file:"+escape(filepath.Join(dir, "file")), "fdatasync before each confirmation")
	case "nats":
		server, err := startServer(ctx, filepath.Join(dir, "nats"))
		if err != nil {
			return nil, err
		}
		t, err := openURL(ctx, name, server.url, "written to the file system; fsync every 2 min; server in a process of its own")
		if err != nil {
			return nil, errors.Join(err, server.stop())
		}
		closeTarget := t.close
		t.close = func(ctx context.Context) error { return errors.Join(closeTarget(ctx), server.stop()) }
		return t, nil
	}
	return openURL(ctx, redacted(name), name, "as the server is set up")
}

// escape makes a path part of a URL.
func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", "&", "%26", " ", "%20").Replace(path)
}

// openURL reaches an engine and holds it with a connection, so that it lasts
// between rounds.
func openURL(ctx context.Context, name, url, saved string) (*target, error) {
	open := func(ctx context.Context) (driver.Conn, error) { return driver.Open(ctx, url) }
	hold, err := open(ctx)
	if err != nil {
		return nil, err
	}
	t := &target{name: name, saved: saved}
	both := ours{open: open, middleware: []dovetail.Middleware{pass, pass, pass}}
	t.ours = &both
	if hold.Capabilities().Durable {
		t.durable = &durable{both}
	}
	t.raw, err = rawOf(ctx, hold, open)
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

// rawOf is the raw client of a transport, nil where this package knows none.
func rawOf(ctx context.Context, hold driver.Conn, open func(context.Context) (driver.Conn, error)) (side, error) {
	switch hold.Capabilities().Name {
	case "membus":
		return rawMemory{}, nil
	case "filebus":
		dir, err := os.MkdirTemp("", "dovetail-bench-raw-")
		if err != nil {
			return nil, err
		}
		return &rawFile{dir: dir}, nil
	case "natsbus", "embedded":
		var r rawNATS
		var held []driver.Conn
		for _, nc := range []**nats.Conn{&r.from, &r.to} {
			c, err := open(ctx)
			if err != nil {
				return nil, err
			}
			held = append(held, c)
			client, ok := c.(interface{ As(any) bool })
			if !ok || !client.As(nc) {
				return nil, fmt.Errorf("transport %s gives no way to its client", hold.Capabilities().Name)
			}
		}
		r.done = func(ctx context.Context) error { return errors.Join(held[0].Close(ctx), held[1].Close(ctx)) }
		return &r, nil
	}
	return nil, nil
}

// redacted is a URL without its user information and parameters.
func redacted(url string) string {
	url, _, _ = strings.Cut(url, "?")
	scheme, rest, ok := strings.Cut(url, "://")
	if i := strings.LastIndexByte(rest, '@'); ok && i >= 0 {
		return scheme + "://" + rest[i+1:]
	}
	return url
}
