package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"modernc.org/sqlite" // also the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dovetail-go/dovetail/store"
)

// Options of a store. The zero value is the default.
type Options struct {
	// Prefix of the tables, for several services in one file; default
	// "dovetail_". Letters, digits and underscores.
	Prefix string

	// Busy is how long to wait for a writer of another process or of DB;
	// default 10 s.
	Busy time.Duration

	// Wait is how long Begin waits for the transactions of this process that are
	// before it; default 30 s. An earlier deadline of the context goes before.
	Wait time.Duration

	// Readers is how many connections read at once; default 8.
	Readers int

	// NoMigration leaves the tables as they are: Migrate, or `dovetail
	// migrate`, has made them.
	NoMigration bool

	// Unsafe sets synchronous=NORMAL: the last commits may be lost with the
	// power, though not with the process. For tests and what can be had again.
	Unsafe bool
}

// A Store is one SQLite file. It is a store.DB.
type Store struct {
	path     string
	opts     Options
	writer   *sql.DB // one connection
	readers  *sql.DB
	stmt     statements
	prepared []*sql.Stmt
	signal   store.Signal
}

var _ store.DB[*sql.Tx] = (*Store)(nil)

var prefixPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Open opens the file at path, makes it if it does not exist, and brings the
// store's tables up to date. At most one Options may be given.
func Open(ctx context.Context, path string, opts ...Options) (*Store, error) {
	s := &Store{path: path}
	if len(opts) > 1 {
		return nil, fmt.Errorf("open %s: %d Options given: want one, or none for the defaults", path, len(opts))
	}
	if len(opts) == 1 {
		s.opts = opts[0]
	}
	if s.opts.Prefix == "" {
		s.opts.Prefix = "dovetail_"
	}
	if !prefixPattern.MatchString(s.opts.Prefix) {
		return nil, fmt.Errorf("open %s: Options.Prefix %q: want letters, digits and underscores, not beginning with a digit", path, s.opts.Prefix)
	}
	if path == "" || path == ":memory:" {
		return nil, fmt.Errorf("open %q: a store in memory cannot have a reader beside its writer: want a file, or package memstore", path)
	}
	if s.opts.Busy == 0 {
		s.opts.Busy = 10 * time.Second
	}
	if s.opts.Wait == 0 {
		s.opts.Wait = 30 * time.Second
	}
	if s.opts.Readers == 0 {
		s.opts.Readers = 8
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fail("open "+path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	abs, err := filepath.Abs(s.path)
	if err != nil {
		return err
	}
	// SQLite would make a file that everybody may read. Those beside it get the
	// rights of this one.
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make %s first: %w", filepath.Dir(abs), err)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	synchronous := "synchronous(FULL)"
	if s.opts.Unsafe {
		synchronous = "synchronous(NORMAL)"
	}
	// busy_timeout comes first, so that it covers the others.
	query := url.Values{"_pragma": {
		"busy_timeout(" + strconv.FormatInt(s.opts.Busy.Milliseconds(), 10) + ")",
		"journal_mode(WAL)", synchronous, "foreign_keys(1)",
	}, "_txlock": {"immediate"}}
	dsn := (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: query.Encode()}).String()
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return err
	}
	s.writer = sql.OpenDB(guardConnector{connector})
	s.writer.SetMaxOpenConns(1)
	if s.readers, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	s.readers.SetMaxOpenConns(s.opts.Readers)
	s.readers.SetMaxIdleConns(s.opts.Readers)
	if err := s.connect(ctx); err != nil {
		return err
	}
	if s.opts.NoMigration {
		return s.prepareMigrated(ctx)
	}
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	return s.prepare(ctx)
}

// busyPause is how long connect waits between its tries.
const busyPause = 5 * time.Millisecond

// connect opens the first connection, which turns a new file to WAL. Two
// processes that both do would wait for each other, so SQLite tells one of them
// at once that the file is busy, without regard to busy_timeout: that one tries
// again.
func (s *Store) connect(ctx context.Context) error {
	for until := time.Now().Add(s.opts.Busy); ; {
		err := s.writer.PingContext(ctx)
		if codeOf(err) != sqlite3.SQLITE_BUSY || time.Now().After(until) {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (s *Store) prepareMigrated(ctx context.Context) error {
	err := s.prepare(ctx)
	if codeOf(err) == sqlite3.SQLITE_ERROR { // no such table, or no such column
		return fmt.Errorf("tables are missing or old; run Migrate or `dovetail migrate`: %w", err)
	}
	return err
}

// DB returns the file's other connections: for queries, for the schema of the
// service's own tables, and for writes outside the outbox's transactions, which
// wait for those. Inside one, it sees what was committed before, and writing
// through it would wait for the transaction that is waiting for it: use tx.
func (s *Store) DB() *sql.DB { return s.readers }

// Path returns where the file is, as given to Open.
func (s *Store) Path() string { return s.path }

// Signal is notified after each commit that wrote messages.
func (s *Store) Signal() *store.Signal { return &s.signal }

// Close closes the file. Transactions must have ended.
func (s *Store) Close() error {
	var errs []error
	for _, st := range s.prepared {
		errs = append(errs, st.Close())
	}
	s.prepared = nil
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil { // last, so that it checkpoints and removes the WAL
		errs = append(errs, s.writer.Close())
	}
	return errors.Join(errs...)
}
