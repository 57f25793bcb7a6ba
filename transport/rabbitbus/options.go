package rabbitbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Options say how to connect and what to make. The zero value is a server on
// 127.0.0.1:5672 with the user guest, and the defaults given here.
type Options struct {
	// Servers are the nodes of one cluster as host:port, tried in turn; the
	// port is 5672, or 5671 with TLS, where none is given. Default 127.0.0.1.
	Servers []string

	User, Password string      // default guest, guest
	VHost          string      // default "/"
	TLS            *tls.Config // nil: no TLS

	// Name shows who is connected in the server's own tools. Default "dovetail".
	Name string

	// Timeout ends every call to the server that its context would not end
	// earlier. A Send fails when no confirmation came for so long. Default 5 s.
	Timeout time.Duration

	// Heartbeat is how often both sides show that they are there. A link over
	// which nothing came for one and a half times as long is lost. Whole
	// seconds. Default 5 s.
	Heartbeat time.Duration

	// Classic makes new queues classic ones. Default: quorum queues, which a
	// cluster replicates. Classic queues do not count attempts.
	Classic bool

	// Partitions is the number of queues of each new channel that does not say
	// so itself. Each has one consumer at a time, its owner, which keeps order
	// by key across instances. Default 0: one queue, which all instances share,
	// and order while there is one instance.
	Partitions int

	// MaxLength bounds the messages in each new queue; at the bound the server
	// refuses to take more, as a retryable error. 0: no bound.
	MaxLength int64

	// MaxBytes is the largest message that is taken, in bytes; the server's own
	// bound (max_message_size) must not be lower. Default 16 MiB.
	MaxBytes int

	// Prefetch bounds what the server delivers ahead, in messages of each queue
	// and receiver. Default 0: the subscription's window, and fewer where its
	// WindowBytes is less: by the size of the messages that came lately, or, with
	// partitions, as if each had 48 KiB. Quorum queues with partitions want the
	// same for all instances of a group.
	Prefetch int

	// InFlight is how many unconfirmed messages a Send has at most. Default 256.
	InFlight int

	// PipelineKeys sends messages of one key without waiting for one
	// another's confirmation within a batch. The order of a key then holds
	// only while no queue refuses a message: none has a bound on its length,
	// by MaxLength or by a policy. Default: each waits for the one before.
	PipelineKeys bool

	// AckTimeout is the server's consumer_timeout: the longest that a message
	// may be in hand before the server takes back all that the receiver has of
	// its queue. AMQP does not tell it. Default 30 min, as the server's is;
	// negative where the server has none.
	AckTimeout time.Duration

	// Expire is how long a broadcast subscription outlives its instance.
	// Default 5 min.
	Expire time.Duration

	// Management is the URL of the server's management plugin, as in
	// http://127.0.0.1:15672, with the user and password above unless it has
	// its own. It is needed to list channels, and to see at provisioning whether
	// policies make queues lose messages; nothing else.
	Management string

	// Arguments are given with each new queue, beside and over ours: text,
	// numbers and truth values, as in "x-quorum-initial-group-size": 5.
	Arguments map[string]any

	// Logger gets notices of the links' coming and going. Default
	// slog.Default().
	Logger *slog.Logger

	servers []string
}

// withDefaults returns o with its zero values replaced, or an error that names
// the field that cannot be.
func (o Options) withDefaults() (Options, error) {
	if o.User == "" && o.Password == "" {
		o.User, o.Password = "guest", "guest"
	}
	o.VHost = or(o.VHost, "/")
	o.Name = or(o.Name, "dovetail")
	o.MaxBytes = or(o.MaxBytes, 16<<20)
	o.InFlight = or(o.InFlight, 256)
	o.Timeout = or(o.Timeout, 5*time.Second)
	o.Heartbeat = or(o.Heartbeat, 5*time.Second)
	o.Expire = or(o.Expire, 5*time.Minute)
	o.AckTimeout = max(or(o.AckTimeout, 30*time.Minute), 0)
	o.Logger = driver.PrintableLogger(o.Logger)
	port := "5672"
	if o.TLS != nil {
		port = "5671"
	}
	if len(o.Servers) == 0 {
		o.Servers = []string{"127.0.0.1"}
	}
	for _, s := range o.Servers {
		addr, err := serverAddr(s, port)
		if err != nil {
			return o, err
		}
		o.servers = append(o.servers, addr)
	}
	for _, bad := range []struct {
		is   bool
		what string
	}{
		{o.Timeout < 0, "Timeout is negative: leave it 0 for 5s"},
		{o.Heartbeat < time.Second || o.Heartbeat%time.Second != 0, "Heartbeat wants whole seconds, at least 1s"},
		{o.Expire < time.Second, "Expire wants at least 1s"},
		{o.Partitions < 0 || o.Partitions > maxPartitions, fmt.Sprintf("Partitions wants 0 to %d", maxPartitions)},
		{o.MaxLength < 0, "MaxLength is negative: leave it 0 for no bound"},
		{o.MaxBytes < 0 || o.MaxBytes > math.MaxInt32, "MaxBytes wants 1 byte to 2 GiB"},
		{o.Prefetch < 0 || o.Prefetch > math.MaxUint16, "Prefetch wants 0 to 65535"},
		{o.InFlight < 1 || o.InFlight > 1<<15, "InFlight wants 1 to 32768"},
		{o.MaxLength > 0 && o.PipelineKeys, "PipelineKeys and MaxLength exclude each other: a queue that refuses messages would put a key out of order"},
	} {
		if bad.is {
			return o, errors.New("rabbitbus: option " + bad.what)
		}
	}
	return o, nil
}

// serverAddr is a server's host and port.
func serverAddr(s, port string) (string, error) {
	host := strings.Trim(s, "[]")
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if strings.Contains(s, "@") {
		s = "user@host" // it may hold a password
	}
	if host == "" || strings.ContainsAny(host, ",;/@ []") || strings.Contains(host, ":") && net.ParseIP(host) == nil || err != nil || n == 0 {
		return "", fmt.Errorf("rabbitbus: option Servers has %q: want one host or host:port in each, as in amqp://a:5672,b:5672/", s)
	}
	return net.JoinHostPort(host, port), nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// hosts names the servers in errors.
func (o *Options) hosts() string { return strings.Join(o.servers, ", ") }

// ParseURL reads a URL of the form
//
//	amqp://[user[:password]@]host[:port][,host[:port]…][/vhost][?name=value&…]
//
// or amqps:// for TLS, with the parameters servers (more nodes of the cluster,
// host:port with commas between), name, timeout, heartbeat, queues (quorum or
// classic), partitions, max-length, max-bytes, prefetch, in-flight, pipeline-keys,
// ack-timeout (or none), expire, management, and ca (the path of a file of certificate authorities),
// cert and key (paths of a client's certificate and key), which are the fields
// of [Options]. Any other parameter is an error.
func ParseURL(u *url.URL) (Options, error) {
	var o Options
	if u.User != nil {
		o.User = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	o.VHost = strings.TrimPrefix(u.Path, "/")
	p := driver.ParamsOf(u)
	port := "5672"
	if u.Scheme == "amqps" {
		port = "5671"
	}
	var err error
	if o.Servers, err = driver.Servers(u, p.String("servers", ""), port); err != nil {
		return o, err
	}
	o.Name = p.String("name", "")
	o.Management = p.String("management", "")
	p.Duration("timeout", &o.Timeout)
	p.Duration("heartbeat", &o.Heartbeat)
	p.Duration("expire", &o.Expire)
	if p.String("ack-timeout", "") == "none" {
		o.AckTimeout = -1
	} else {
		p.Duration("ack-timeout", &o.AckTimeout)
	}
	p.Int("partitions", &o.Partitions, 0)
	p.Int("max-bytes", &o.MaxBytes, 0)
	p.Int("prefetch", &o.Prefetch, 0)
	p.Int("in-flight", &o.InFlight, 0)
	p.Int64("max-length", &o.MaxLength, 0)
	p.Bool("pipeline-keys", &o.PipelineKeys)
	p.Parse("queues", func(v string) error {
		o.Classic = v == "classic"
		if v != "classic" && v != "quorum" {
			return errors.New("want quorum or classic")
		}
		return nil
	})
	o.readTLS(u, p)
	return o, p.Err()
}

// readTLS sets what a URL says of TLS.
func (o *Options) readTLS(u *url.URL, p *driver.Params) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	with := u.Scheme == "amqps"
	only := func(set func(string) error) func(string) error {
		return func(v string) error {
			if !with {
				return errors.New("is for amqps:// only")
			}
			return set(v)
		}
	}
	p.Parse("ca", only(func(file string) error {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return errors.New("no certificate in it")
		}
		return nil
	}))
	key := p.String("key", "")
	p.Parse("key", only(func(string) error {
		if !p.Has("cert") {
			return errors.New("is the key of cert, which is not there: give both")
		}
		return nil
	}))
	p.Parse("cert", only(func(file string) error {
		cert, err := tls.LoadX509KeyPair(file, or(key, file))
		config.Certificates = []tls.Certificate{cert}
		return err
	}))
	if with {
		o.TLS = config
	}
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
	driver.Register("amqp", openURL)
	driver.Register("amqps", openURL)
}
