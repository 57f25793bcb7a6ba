package driver

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// An Opener connects to the engine that a URL names. A parameter of the URL
// that it does not know is an error that names it.
type Opener func(ctx context.Context, u *url.URL) (Conn, error)

var (
	openersMu sync.RWMutex
	openers   = map[string]Opener{}
)

// Register makes a URL scheme known to Open. Transports call it when they are
// imported; registering a scheme twice is a mistake in the program and panics.
func Register(scheme string, open Opener) {
	openersMu.Lock()
	defer openersMu.Unlock()
	if openers[scheme] != nil {
		panic("driver: scheme " + scheme + " registered twice")
	}
	openers[scheme] = open
}

// Schemes returns the registered URL schemes, sorted.
func Schemes() []string {
	openersMu.RLock()
	defer openersMu.RUnlock()
	names := make([]string, 0, len(openers))
	for s := range openers {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

// Open connects to the engine that rawURL names, with the transport that was
// registered for its scheme.
func Open(ctx context.Context, rawURL string) (Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parse error quotes the URL, which may hold a password.
		return nil, fmt.Errorf("broker URL cannot be parsed: want scheme://host:port or scheme:path")
	}
	openersMu.RLock()
	open := openers[u.Scheme]
	openersMu.RUnlock()
	if u.Scheme == "" {
		return nil, fmt.Errorf("broker URL %q has no scheme: write scheme://host:port or scheme:path (linked: %s)", u.Redacted(), strings.Join(Schemes(), ", "))
	}
	if open == nil {
		return nil, fmt.Errorf("no transport for scheme %q is linked in (linked: %s): import its package for its effect, as in _ %q",
			u.Scheme, strings.Join(Schemes(), ", "), home(u.Scheme))
	}
	conn, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", u.Redacted(), err)
	}
	return conn, nil
}

// home is the package that registers a scheme; that of mem for an unknown one,
// as an example.
func home(scheme string) string {
	dir := "membus"
	switch scheme {
	case "file":
		dir = "filebus"
	case "nats", "tls":
		dir = "natsbus"
	case "embedded":
		dir = "natsbus/embedded"
	case "kafka":
		dir = "kafkabus"
	case "amqp", "amqps":
		dir = "rabbitbus"
	}
	return "github.com/dovetail-go/dovetail/transport/" + dir
}

// Params reads a URL's query parameters one by one and at the end names those
// that nobody asked for.
type Params struct {
	values url.Values
	known  []string
	errs   []string
}

// ParamsOf begins to read u's parameters.
func ParamsOf(u *url.URL) *Params { return &Params{values: u.Query()} }

// String returns the parameter called name, or def if it is absent.
func (p *Params) String(name, def string) string {
	p.known = append(p.known, name)
	if !p.values.Has(name) {
		return def
	}
	return p.values.Get(name)
}

// Parse reads the parameter called name with parse, if it is there.
func (p *Params) Parse(name string, parse func(string) error) {
	p.known = append(p.known, name)
	if !p.values.Has(name) {
		return
	}
	if err := parse(p.values.Get(name)); err != nil {
		p.errs = append(p.errs, fmt.Sprintf("parameter %s=%s: %v", name, p.values.Get(name), err))
	}
}

// Err names the parameters that could not be read and those that are unknown,
// with the ones that exist; nil if there are none.
func (p *Params) Err() error {
	for name := range p.values {
		if !slices.Contains(p.known, name) {
			have := "it takes none"
			if len(p.known) > 0 {
				have = "known: " + strings.Join(p.known, ", ")
			}
			p.errs = append(p.errs, fmt.Sprintf("unknown parameter %q (%s)", name, have))
		}
	}
	if len(p.errs) == 0 {
		return nil
	}
	slices.Sort(p.errs)
	return fmt.Errorf("%s", strings.Join(p.errs, "; "))
}
