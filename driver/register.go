package driver

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// An Opener connects to the engine that a URL names, with the logger that Logger
// returns for ctx. A parameter of the URL that it does not know is an error that
// names it (see Params). ctx bounds the connecting; the connection outlives it. An
// Opener may be called by several goroutines at once.
type Opener func(ctx context.Context, u *url.URL) (Conn, error)

var (
	openersMu sync.RWMutex
	openers   = map[string]Opener{}
)

// Register makes a URL scheme known to Open. Transports call it from init, when they
// are imported. To register a scheme twice is a mistake in the program and panics.
// It is safe for concurrent use, as are Schemes and Open.
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

// Open connects to the engine that rawURL names, with the transport that is
// registered for its scheme. The caller closes the connection. A scheme that no
// imported package has registered is an error that says which package to import. Errors
// show scheme, host and path of the URL, and nothing else of it.
func Open(ctx context.Context, rawURL string) (Conn, error) {
	u, err := ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("broker %w (linked: %s)", err, strings.Join(Schemes(), ", "))
	}
	openersMu.RLock()
	open := openers[u.Scheme]
	openersMu.RUnlock()
	if open == nil {
		return nil, fmt.Errorf("no transport for scheme %q is linked in (linked: %s): import its package for its effect, as in _ %q",
			u.Scheme, strings.Join(Schemes(), ", "), home(u.Scheme))
	}
	conn, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", RedactURL(u), RedactError(err, u))
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
