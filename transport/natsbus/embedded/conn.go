package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// Conn is a connection that keeps the server that it goes to: closing the last
// one ends the server.
type Conn struct {
	*natsbus.Conn
	server *Server
}

// Open starts or joins a server and connects to it, as driver.Open does with an
// embedded: URL.
func Open(ctx context.Context, o Options, bus natsbus.Options) (*Conn, error) {
	s, err := Start(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := s.Connect(ctx, bus)
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return &Conn{c, s}, nil
}

// Server is the server that the connection goes to.
func (c *Conn) Server() *Server { return c.server }

// Capabilities are those of natsbus; other processes are reached if the server
// listens.
func (c *Conn) Capabilities() driver.Capabilities {
	caps := c.Conn.Capabilities()
	caps.Name = "embedded"
	caps.Shared = c.server.shared.opts.Listen != ""
	return caps
}

// Close ends the connection, and the server if nobody else uses it.
func (c *Conn) Close(ctx context.Context) error {
	return errors.Join(c.Conn.Close(ctx), c.server.Close(ctx))
}

func openURL(ctx context.Context, u *url.URL) (driver.Conn, error) {
	o, bus, err := ParseURL(u)
	if err != nil {
		return nil, err
	}
	o.Logger = driver.Logger(ctx)
	bus.Logger = o.Logger
	return Open(ctx, o, bus)
}

func init() { driver.Register("embedded", openURL) }

// Send is that of natsbus. While the directory cannot be written to, it sends
// nothing and says so.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if why := c.server.shared.why(); why != nil && len(messages) > 0 {
		return why
	}
	err := c.Conn.Send(ctx, messages)
	failed := (*driver.SendError)(nil)
	if why := c.server.shared.why(); why != nil && errors.As(err, &failed) {
		for i := range failed.Failures {
			f := &failed.Failures[i]
			f.Err = fmt.Errorf("%w: %w", f.Err, why)
		}
	}
	return err
}

// Provision is that of natsbus, and says so where the directory cannot be
// written to.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	err := c.Conn.Provision(ctx, channels, subscriptions)
	if why := c.server.shared.why(); why != nil && err != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// logger hands the server's warnings and errors to slog.
type logger struct {
	to    *slog.Logger
	guard *guard
}

func (logger) Noticef(string, ...any) {}
func (logger) Debugf(string, ...any)  {}
func (logger) Tracef(string, ...any)  {}
func (l logger) Warnf(format string, v ...any) {
	l.to.Warn("embedded: " + fmt.Sprintf(format, v...))
}
func (l logger) Errorf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.guard.hear(line)
	l.to.Error("embedded: " + line)
}
func (l logger) Fatalf(format string, v ...any) {
	l.to.Error("embedded: " + fmt.Sprintf(format, v...))
}
