package embedded

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// Options say where a server keeps its messages and who reaches it. The zero
// value is a server for this process alone, in the default directory.
type Options struct {
	// Dir is where the messages are kept; it is made if it does not exist.
	// One process may have it open at a time. Default: "dovetail" in the
	// user's data directory (DefaultDir).
	Dir string

	// Listen is host:port for other processes, as in "127.0.0.1:4222"; port 0
	// for any. Default: the server does not listen.
	Listen string

	// Token is what clients must present. It is required where Listen is not a
	// loopback address.
	Token string

	// TLS is with what the server shows who it is, and encrypts. It, or Plaintext,
	// is required where Listen is not a loopback address.
	TLS *tls.Config

	// Plaintext says that the token and the messages may travel as they are,
	// beyond loopback: the network is trusted, or encrypts by itself.
	Plaintext bool

	// SyncAlways writes each message to the disk before it is confirmed: a
	// loss of power then loses nothing, at about an eighth of the rate.
	SyncAlways bool

	// SyncInterval is how often the server writes to the disk otherwise; a loss
	// of power may cost what was confirmed since. Default 2 min.
	SyncInterval time.Duration

	// MaxPayload is the largest message, in bytes. Default 4 MiB.
	MaxPayload int32

	// MaxStore bounds the directory, in bytes. Default: three quarters of the
	// disk space that is free.
	MaxStore int64

	// Logger gets the server's warnings and errors. Default slog.Default().
	Logger *slog.Logger
}

const (
	defaultSyncInterval = 2 * time.Minute
	defaultMaxPayload   = 4 << 20
)

// DefaultDir is where a server keeps its messages if no directory is named:
// "dovetail" below $XDG_DATA_HOME or ~/.local/share, or below the user's
// configuration directory on systems that have no such place.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dovetail"), nil
	}
	if runtime.GOOS != "windows" && runtime.GOOS != "darwin" {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "share", "dovetail"), nil
		}
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("embedded: no default directory: %w: name one, as in embedded:?dir=/var/lib/shop", err)
	}
	return filepath.Join(dir, "dovetail"), nil
}

func (o Options) withDefaults() (Options, error) {
	var err error
	if o.Dir == "" {
		if o.Dir, err = DefaultDir(); err != nil {
			return o, err
		}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, fmt.Errorf("embedded: directory %q: %w", o.Dir, err)
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = defaultSyncInterval
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	o.Logger = driver.PrintableLogger(o.Logger)
	switch {
	case o.SyncInterval < time.Second:
		return o, fmt.Errorf("embedded: option SyncInterval is %v: want at least 1s; for less there is SyncAlways", o.SyncInterval)
	case o.MaxPayload < 1024 || o.MaxPayload > 64<<20:
		return o, fmt.Errorf("embedded: option MaxPayload is %d: want 1 KiB to 64 MiB", o.MaxPayload)
	case o.MaxStore < 0:
		return o, fmt.Errorf("embedded: option MaxStore is negative: leave it 0 for three quarters of what is free")
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return o, fmt.Errorf("embedded: option Listen is %q: want host:port, as in 127.0.0.1:4222", o.Listen)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return o, fmt.Errorf("embedded: option Listen is %q: port %q is no number from 0 to 65535", o.Listen, port)
		}
		ip := net.ParseIP(host)
		switch beyond := host != "localhost" && (ip == nil || !ip.IsLoopback()); {
		case beyond && o.Token == "":
			return o, fmt.Errorf("embedded: option Listen is %q, which others can reach: set a token, or listen on 127.0.0.1", o.Listen)
		case beyond && o.TLS == nil && !o.Plaintext:
			return o, fmt.Errorf("embedded: option Listen is %q, and others on the way would read the token and the messages: set TLS (cert and key in a URL), or Plaintext (plaintext=true) where the network is trusted", o.Listen)
		}
	}
	if o.TLS != nil && o.Plaintext {
		return o, errors.New("embedded: options TLS and Plaintext exclude each other: set one")
	}
	return o, nil
}

// same returns an error that names the first option in which a and b, two
// opens of one directory, differ.
func (a Options) same(b Options) error {
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"Listen", a.Listen, b.Listen}, {"Token", a.Token == b.Token, true}, {"TLS", a.TLS != nil, b.TLS != nil}, {"Plaintext", a.Plaintext, b.Plaintext}, {"SyncAlways", a.SyncAlways, b.SyncAlways},
		{"SyncInterval", a.SyncInterval, b.SyncInterval}, {"MaxPayload", a.MaxPayload, b.MaxPayload}, {"MaxStore", a.MaxStore, b.MaxStore},
	} {
		if f.have != f.want {
			return fmt.Errorf("embedded: directory %s is open in this process with another %s: use the same options, or another directory", a.Dir, f.name)
		}
	}
	return nil
}

// LoadTLS reads a certificate and its key, in PEM; both may be in one file.
func LoadTLS(cert, key string) (*tls.Config, error) {
	if key == "" {
		key = cert
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("want the files of a certificate and of its key, in PEM: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// ParseURL reads a URL of the form
//
//	embedded:[directory][?dir=…&listen=host:port&token=…&cert=file&key=file&plaintext=true&sync=always|interval&max-payload=bytes&max-store=bytes]
//
// and the parameters of [natsbus.Options.ReadParams], for the connection.
func ParseURL(u *url.URL) (Options, natsbus.Options, error) {
	var o Options
	var bus natsbus.Options
	o.Dir = u.Opaque
	if u.Opaque == "" {
		o.Dir = filepath.Join(u.Host, u.Path)
	}
	if o.Dir != "" {
		var err error
		if o.Dir, err = url.PathUnescape(o.Dir); err != nil {
			return o, bus, fmt.Errorf("directory in the URL: %w", err)
		}
	}
	p := driver.ParamsOf(u)
	p.Parse("dir", func(v string) error {
		if o.Dir != "" {
			return fmt.Errorf("the URL names directory %s as well: use one of them", o.Dir)
		}
		o.Dir = v
		return nil
	})
	o.Listen = p.String("listen", "")
	o.Token = p.String("token", "")
	p.Bool("plaintext", &o.Plaintext)
	cert, key := p.String("cert", ""), p.String("key", "")
	p.Parse("key", func(string) error {
		if cert == "" {
			return errors.New("is the key of cert, which is not there: give both")
		}
		return nil
	})
	p.Parse("cert", func(string) (err error) { o.TLS, err = LoadTLS(cert, key); return err })
	for name, given := range map[string]bool{"token": o.Token != "", "cert": cert != "", "plaintext": o.Plaintext} {
		p.Parse(name, func(string) error {
			if given && o.Listen == "" {
				return errors.New("is for a server that listens: add listen=host:port")
			}
			return nil
		})
	}
	p.Parse("sync", func(v string) (err error) {
		if v == "always" {
			o.SyncAlways = true
			return nil
		}
		if o.SyncInterval, err = time.ParseDuration(v); err != nil {
			return errors.New("want always, or a duration as in 10s")
		}
		return nil
	})
	p.Parse("max-payload", func(v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return errors.New("want a whole number of bytes")
		}
		o.MaxPayload = int32(n)
		return nil
	})
	p.Int64("max-store", &o.MaxStore, 0)
	bus.ReadParams(p)
	return o, bus, p.Err()
}
