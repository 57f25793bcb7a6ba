package natsbus

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// Options say how to connect and what to make. The zero value is a server
// without credentials on 127.0.0.1:4222 and the defaults given here.
type Options struct {
	// URL is the server, or several of one cluster with commas between:
	// "nats://a:4222,nats://b:4222". Default nats://127.0.0.1:4222.
	URL string

	// Name shows who is connected in the server's own tools. Default "dovetail".
	Name string

	User, Password string      // with user accounts
	Token          string      // with token authentication
	Credentials    string      // path of a .creds file (JWT and nkey)
	TLS            *tls.Config // nil: TLS only where the server demands it

	// Timeout ends every call to the server that its context would not end
	// earlier. Default 5 s.
	Timeout time.Duration

	// Ping is how often an idle link is tried. Of two pings without an answer the
	// link is lost, and another server is taken. At least 100 ms. Default 3 s.
	Ping time.Duration

	// Replicas is how many servers of a cluster keep each new stream, 1 to 5.
	// Default 1.
	Replicas int

	// AckWait is the lease of a delivery where the subscription names none.
	// Default 30 s.
	AckWait time.Duration

	// Dedupe is how long the server drops a second copy of a message on a
	// publish–subscribe channel. The server keeps every identity of that time
	// in memory. Default 30 s.
	Dedupe time.Duration

	// MaxBytes bounds what each new channel holds; at the bound the server
	// refuses to take more, as a retryable error. 0: the server's own bound.
	MaxBytes int64

	// Expire is how long the group of a broadcast subscription outlives its
	// instance, at least 10 s. Default 5 min.
	Expire time.Duration

	// Partitions is the number of partitions of each new channel that does not
	// say how many it wants. A partition has one owner at a time among a
	// group's instances (nats-server 2.11), without which Ordered
	// subscriptions are refused. 0: none, and instances compete.
	Partitions int

	// OwnerTTL is after how long without a word from it the owner of a
	// partition is taken for gone, at least 1 s. It is fixed when a group is
	// provisioned. Default 5 s.
	OwnerTTL time.Duration

	// Inbox begins the subjects on which this connection gets answers, "_INBOX"
	// by default. Who may subscribe to them may read what the connection
	// receives: give each service one of its own, such as "_INBOX_mail".
	Inbox string

	// Logger gets notices of the link's coming and going, and of foreign
	// errors that belong to no call. Default slog.Default().
	Logger *slog.Logger

	// Client are further options of the client underneath, applied last.
	Client []nats.Option
}

// withDefaults returns o with its zero values replaced, or an error that names
// the field that cannot be.
func (o Options) withDefaults() (Options, error) {
	set := func(d *time.Duration, name string, def time.Duration) error {
		if *d == 0 {
			*d = def
		}
		if *d < 0 {
			return fmt.Errorf("natsbus: option %s is negative: leave it 0 for %v", name, def)
		}
		return nil
	}
	if o.URL == "" {
		o.URL = nats.DefaultURL
	}
	for s := range strings.SplitSeq(o.URL, ",") {
		if !strings.Contains(s, "://") {
			s = "nats://" + strings.TrimSpace(s)
		}
		if _, err := driver.ParseURL(s); err != nil { // the client's own error quotes it
			return o, fmt.Errorf("natsbus: option URL: %w", err)
		}
	}
	if o.Name == "" {
		o.Name = "dovetail"
	}
	o.Logger = driver.PrintableLogger(o.Logger)
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Replicas < 1 || o.Replicas > 5 {
		return o, fmt.Errorf("natsbus: option Replicas is %d: want 1 to 5", o.Replicas)
	}
	if o.MaxBytes < 0 {
		return o, fmt.Errorf("natsbus: option MaxBytes is negative: leave it 0 for no bound")
	}
	if o.Partitions < 0 || o.Partitions > maxPartitions {
		return o, fmt.Errorf("natsbus: option Partitions is %d: want 0 to %d", o.Partitions, maxPartitions)
	}
	for _, err := range []error{
		set(&o.OwnerTTL, "OwnerTTL", 5*time.Second),
		set(&o.Timeout, "Timeout", 5*time.Second),
		set(&o.Ping, "Ping", 3*time.Second),
		set(&o.AckWait, "AckWait", 30*time.Second),
		set(&o.Dedupe, "Dedupe", 30*time.Second),
		set(&o.Expire, "Expire", 5*time.Minute),
	} {
		if err != nil {
			return o, err
		}
	}
	if o.OwnerTTL < time.Second {
		return o, fmt.Errorf("natsbus: option OwnerTTL is %v: want at least 1s", o.OwnerTTL)
	}
	if o.Ping < 100*time.Millisecond {
		return o, fmt.Errorf("natsbus: option Ping is %v: want at least 100ms", o.Ping)
	}
	if o.Expire < minExpire {
		return o, fmt.Errorf("natsbus: option Expire is %v: want at least %v, for an instance has to reconnect before its broadcast groups are gone", o.Expire, minExpire)
	}
	if o.Dedupe < 100*time.Millisecond {
		return o, fmt.Errorf("natsbus: option Dedupe is %v: the server wants at least 100ms", o.Dedupe)
	}
	return o, nil
}

// ParseURL reads a URL of the form
//
//	nats://[user:password@]host:port[?name=value&…]
//
// with the parameters servers (more servers of the cluster, host:port with
// commas between; a URL has room for one port only), name, token, creds, tls (true, or the path of a file of
// certificate authorities), timeout, ping, replicas, ack-wait, dedupe, max-bytes,
// expire, partitions, owner-ttl and inbox, which are the fields of [Options]. tls://host:port is
// nats://host:port?tls=true. Any other parameter is an error.
func ParseURL(u *url.URL) (Options, error) {
	var o Options
	if u.Path != "" && u.Path != "/" {
		return o, fmt.Errorf("path %q: a NATS URL has none", u.Path)
	}
	if u.User != nil {
		o.User = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	p := driver.ParamsOf(u)
	hosts, err := driver.Servers(u, p.String("servers", ""), "4222")
	if err != nil {
		return o, err
	}
	for i, h := range hosts {
		hosts[i] = "nats://" + h
	}
	o.URL = strings.Join(hosts, ",")
	o.ReadParams(p)
	o.Token = p.String("token", "")
	o.Credentials = p.String("creds", "")
	p.Exclude("who connects", map[string]bool{"a user": u.User != nil, "token": o.Token != "", "creds": o.Credentials != ""})
	withTLS := u.Scheme == "tls"
	p.Parse("tls", func(v string) error {
		if on, err := strconv.ParseBool(v); err == nil {
			if !on && withTLS {
				return fmt.Errorf("the scheme tls demands it: write nats:// to go without")
			}
			withTLS = on
			return nil
		}
		withTLS = true
		o.Client = append(o.Client, nats.RootCAs(v))
		return nil
	})
	if withTLS {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o, p.Err()
}

// ReadParams sets the fields that a URL's parameters name, wherever the server
// is: name, timeout, ping, replicas, ack-wait, dedupe, max-bytes, expire, partitions,
// owner-ttl and inbox.
func (o *Options) ReadParams(p *driver.Params) {
	o.Name = p.String("name", o.Name)
	o.Inbox = p.String("inbox", o.Inbox)
	p.Duration("timeout", &o.Timeout)
	p.Duration("ping", &o.Ping)
	p.Duration("ack-wait", &o.AckWait)
	p.Duration("dedupe", &o.Dedupe)
	p.Duration("expire", &o.Expire)
	p.Duration("owner-ttl", &o.OwnerTTL)
	p.Int("partitions", &o.Partitions, 0)
	p.Int("replicas", &o.Replicas, 1)
	p.Int64("max-bytes", &o.MaxBytes, 0)
}

func openURL(ctx context.Context, u *url.URL) (driver.Conn, error) {
	o, err := ParseURL(u)
	if err != nil {
		return nil, err
	}
	o.Logger = driver.Logger(ctx)
	return Connect(ctx, o)
}

func init() {
	driver.Register("nats", openURL)
	driver.Register("tls", openURL)
}

// servers shows the servers in errors.
func (o Options) servers() string {
	var safe []string
	for s := range strings.SplitSeq(o.URL, ",") {
		safe = append(safe, driver.Redact(s))
	}
	return strings.Join(safe, ", ")
}
