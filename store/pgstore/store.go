package pgstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/store"
)

// core is what both flavours share: everything that does not happen in a
// transaction of the user's.
type core struct {
	opts   Options
	name   string        // of the database, for errors
	pool   *pgxpool.Pool // business transactions
	own    bool          // Close closes it
	work   *pgxpool.Pool // the relay
	reads  *pgxpool.Pool // Next
	beside *pgxpool.Pool // all else: it must not keep the relay waiting
	shards int
	prefix string // with the schema, as in ~
	topic  string // of notices
	lock   int64  // of migrations
	signal store.Signal
	notice notifier

	settling chan struct{} // a slot for each Resolve and Lookup under way

	mu      sync.Mutex
	states  map[int]*shardState // of the shards that this process reads
	leading map[string]time.Time
	leads   atomic.Int64 // until when this process leads all shards, Unix nanoseconds
	texts   sync.Map     // statement → with the names of this store
}

// Store is a PostgreSQL database for services that use pgx. It is a store.DB
// and a store.Listener.
type Store struct {
	*core
	begun sync.Map // *pgx.Conn → the *transaction on it that others are nested in
}

var (
	_ store.DB[pgx.Tx] = (*Store)(nil)
	_ store.Listener   = (*Store)(nil)
)

// Open connects to the database at a URL or a keyword/value string, as libpq
// knows them (https://www.postgresql.org/docs/current/libpq-connect.html), and
// brings the store's tables up to date. At most one Options may be given.
func Open(ctx context.Context, url string, opts ...Options) (*Store, error) {
	c, err := open(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	return &Store{core: c}, nil
}

// New makes a store of a pool that is somebody else's and stays open when the
// store is closed. The relay gets connections of its own, made as the pool's. With
// a config of ParseConfig, a commit whose wait for a standby somebody cancels at the
// server is known to be unknown; with another one it is taken for committed.
func New(ctx context.Context, pool *pgxpool.Pool, opts ...Options) (*Store, error) {
	c, err := newCore(ctx, pool, opts)
	if err != nil {
		return nil, err
	}
	return &Store{core: c}, nil
}

func open(ctx context.Context, url string, opts []Options) (*core, error) {
	if err := store.Networked(); err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	o, err := oneOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	config, err := ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	switch {
	case o.Conns > 0:
		config.MaxConns = int32(o.Conns)
	case !strings.Contains(url, "pool_max_conns"):
		config.MaxConns = 20
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	c, err := newCore(ctx, pool, []Options{o})
	if err != nil {
		pool.Close()
		return nil, err
	}
	c.own = true
	return c, nil
}

// besideConns is how many connections everything else uses at once, at most: to
// look into commits that were not answered, to count, to look up inbox rows, to
// send notices. settles is how many of them look into commits and rows, and may
// wait for commits that hang or for a standby: one at least is left for the rest.
const (
	besideConns = 4
	settles     = 3
)

// relayConns is how many connections the relay's helpers use at once, at most:
// to advance, to extend the lease, to move delayed messages, to tidy up, and one
// for the rest. Beside them there is one to read, up to readConns where there
// are several shards: whoever reads does not meet a new connection, on which its
// statement is planned again, because a helper has the other. That took eight
// milliseconds, for one read in a hundred.
const (
	relayConns = 5
	readConns  = 4
)

func newCore(ctx context.Context, pool *pgxpool.Pool, opts []Options) (_ *core, err error) {
	if err := store.Networked(); err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	o, err := oneOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	config := pool.Config()
	hearCuts(config.ConnConfig)
	c := &core{
		opts: o, pool: pool, settling: make(chan struct{}, settles), states: map[int]*shardState{}, leading: map[string]time.Time{},
		name: fmt.Sprintf("%s at %s:%d", config.ConnConfig.Database, config.ConnConfig.Host, config.ConnConfig.Port),
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = relayConns, 0, 0
	if c.work, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open %s: %w", c.name, err)
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.prepare(ctx); err != nil {
		c.work.Close()
		return nil, fail("open "+c.name, err)
	}
	config.MaxConns = int32(min(c.shards, readConns))
	if c.reads, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		c.work.Close()
		return nil, fmt.Errorf("open %s: %w", c.name, err)
	}
	config.MaxConns = besideConns
	if c.beside, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		c.reads.Close()
		c.work.Close()
		return nil, fmt.Errorf("open %s: %w", c.name, err)
	}
	return c, nil
}

// prepare finds out what the store's names are and what its tables say.
func (c *core) prepare(ctx context.Context) error {
	schema := c.opts.Schema
	var version int
	if err := c.work.QueryRow(ctx, `SELECT coalesce(nullif($1, ''), current_schema(), ''), current_setting('server_version_num')::int`, schema).
		Scan(&schema, &version); err != nil {
		return err
	}
	switch {
	case version < 130000:
		return fmt.Errorf("PostgreSQL %d has no 64-bit transaction ids to tell rows by: want version 13 or later", version/10000)
	case schema == "":
		return errors.New("the connection's search_path names no schema that exists: set Options.Schema")
	}
	c.prefix = pgx.Identifier{schema}.Sanitize() + "." + c.opts.Prefix
	h := fnv.New64a()
	h.Write([]byte(c.prefix))
	c.lock = int64(h.Sum64())
	c.topic = fmt.Sprintf("dovetail_%016x", h.Sum64())
	if !c.opts.NoMigration {
		if err := c.Migrate(ctx); err != nil {
			return err
		}
	}
	if err := c.work.QueryRow(ctx, c.sql(`SELECT value::int FROM ~setting WHERE name = 'shards'`)).Scan(&c.shards); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if c.opts.Shards != 0 && c.opts.Shards != c.shards {
		return fmt.Errorf("Options.Shards is %d and the outbox was made with %d: publish what is in it, stop its writers and update %ssetting",
			c.opts.Shards, c.shards, c.prefix)
	}
	return c.look(ctx)
}

// look finds what would go wrong later and unseen: a role that may publish and
// not tidy up, and numbers that would be given out again.
func (c *core) look(ctx context.Context) error {
	var leads, tidies, restored bool
	if err := c.work.QueryRow(ctx, c.sql(`SELECT has_table_privilege('~cursor', 'SELECT') AND has_table_privilege('~cursor', 'UPDATE'),
		has_table_privilege('~outbox_0', 'TRUNCATE')`)).Scan(&leads, &tidies); err != nil {
		return err
	}
	if !leads { // it writes alone
		return nil
	}
	if !tidies {
		return fmt.Errorf("this role may publish from the outbox and not tidy it up, which would grow for ever: grant it TRUNCATE on %[1]soutbox_0 to %[1]soutbox_%[2]d, or have it own them; a role that only writes needs no UPDATE on %[1]scursor",
			c.prefix, leaves-1)
	}
	if err := c.work.QueryRow(ctx, c.sql(`SELECT EXISTS (SELECT FROM ~cursor WHERE system <> `+system+`)`)).Scan(&restored); err != nil || !restored {
		return err
	}
	return c.setSequences(ctx)
}

// sql returns a statement with the names of this store's tables.
func (c *core) sql(text string) string {
	if known, ok := c.texts.Load(text); ok {
		return known.(string)
	}
	named := strings.NewReplacer("~", c.prefix, "^", c.opts.Prefix).Replace(text)
	c.texts.Store(text, named)
	return named
}

// Pool returns the connections of business transactions: for the service's own
// queries.
func (c *core) Pool() *pgxpool.Pool { return c.pool }

// Signal is notified after each commit of this process that wrote messages,
// and, while Listen runs, of others.
func (c *core) Signal() *store.Signal { return &c.signal }

// Shards is how many relays may work side by side.
func (c *core) Shards() int { return c.shards }

// Close closes the store's connections. Transactions must have ended.
func (c *core) Close() error {
	c.notice.stop()
	c.beside.Close()
	c.reads.Close()
	c.work.Close()
	if c.own {
		c.pool.Close()
	}
	return nil
}
