package pgstore

import (
	"fmt"
	"regexp"
	"time"
)

// Options of a store. The zero value is the default.
type Options struct {
	// Schema of the tables; default: the first of the connection's search_path.
	// It is created if it does not exist. Letters, digits and underscores.
	Schema string

	// Prefix of the tables, for several services in one schema; default
	// "dovetail_". Letters, digits and underscores, at most 30.
	Prefix string

	// Shards is how many relays may work side by side; default what the tables
	// were made with, and 1 for new ones. Another number than they were made
	// with is an error. At most 64.
	Shards int

	// Conns is how many connections business transactions may use at once;
	// default 20, unless the URL has pool_max_conns. The relay has up to six of
	// its own, nine where there are several shards, and everything else that the
	// store does up to four and one to listen, so that neither busy transactions
	// nor commits that hang cost the relay its lease. New ignores it.
	Conns int

	// Timeout bounds every statement that the store runs, and the wait for a
	// connection; default 30 s. An earlier deadline of the context goes before.
	Timeout time.Duration

	// Notify is how far apart the notices are, at least, that tell relays in
	// other processes of new messages; default 5 ms.
	Notify time.Duration

	// NoReorder leaves messages that are written before the end of a
	// transaction – through outbox.Box.Sender, or by hand – with the number that
	// they got then. By default a deferred trigger numbers them again at commit,
	// when all locks are held: that is what makes their order by key true.
	NoReorder bool

	// NoMigration leaves the tables as they are: Migrate, or `dovetail
	// migrate`, has made them.
	NoMigration bool
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxShards keeps a mistyped number from making thousands of relays.
const maxShards = 64

func oneOptions(opts []Options) (Options, error) {
	if len(opts) > 1 {
		return Options{}, fmt.Errorf("%d Options given: want one", len(opts))
	}
	var o Options
	if len(opts) == 1 {
		o = opts[0]
	}
	if o.Prefix == "" {
		o.Prefix = "dovetail_"
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Notify == 0 {
		o.Notify = 5 * time.Millisecond
	}
	switch {
	case !namePattern.MatchString(o.Prefix) || len(o.Prefix) > 30:
		return o, fmt.Errorf("Options.Prefix %q: want at most 30 letters, digits and underscores, not beginning with a digit", o.Prefix)
	case o.Schema != "" && (!namePattern.MatchString(o.Schema) || len(o.Schema) > 63):
		return o, fmt.Errorf("Options.Schema %q: want at most 63 letters, digits and underscores, not beginning with a digit", o.Schema)
	case o.Shards < 0 || o.Shards > maxShards:
		return o, fmt.Errorf("Options.Shards %d: want 1 to %d, or 0 for what the tables were made with", o.Shards, maxShards)
	case o.Conns < 0 || o.Conns > 10_000:
		return o, fmt.Errorf("Options.Conns %d: want a number of connections, or 0 for the default", o.Conns)
	case o.Timeout < 0 || o.Notify < 0:
		return o, fmt.Errorf("Options.Timeout %v, Options.Notify %v: want positive values, or 0 for the default", o.Timeout, o.Notify)
	}
	return o, nil
}
