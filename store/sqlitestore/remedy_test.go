package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
)

// A file is a store's file with a message in it.
type file struct {
	*testing.T
	path string
}

func (f file) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// write opens the file and commits a message with a body of that size.
func (f file) write(size int, o sqlitestore.Options, before ...string) (err error) {
	s, err := sqlitestore.Open(f.Context(), f.path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tx, err := s.Begin(f.Context())
	if err != nil {
		return err
	}
	for _, text := range before {
		if _, err := tx.ExecContext(f.Context(), text); err != nil {
			return errors.Join(err, s.Rollback(f.Context(), tx))
		}
	}
	m := &driver.Message{ID: dovetail.NewID(), Channel: "stock", Source: "catalog", Type: "catalog.counted.v1", Body: make([]byte, size)}
	return s.Commit(f.Context(), tx, store.Writes{Token: dovetail.NewID(), Messages: []*driver.Message{m}})
}

// holds is how many messages are in the outbox of a prefix.
func (f file) holds(o sqlitestore.Options) (n int) {
	f.Helper()
	s, err := sqlitestore.Open(f.Context(), f.path, o)
	f.must(err)
	defer func() { f.must(s.Close()) }()
	prefix := o.Prefix
	if prefix == "" {
		prefix = "dovetail_"
	}
	f.must(s.DB().QueryRowContext(f.Context(), "SELECT count(*) FROM "+prefix+"outbox").Scan(&n))
	return n
}

// hold begins a transaction that writes, as another process does.
func (f file) hold() (end func()) {
	f.Helper()
	db, err := sql.Open("sqlite", "file:"+f.path+"?_txlock=immediate")
	f.must(err)
	tx, err := db.BeginTx(context.Background(), nil)
	f.must(err)
	return func() { f.must(errors.Join(tx.Rollback(), db.Close())) }
}

func (f file) copyFrom(path string) {
	f.Helper()
	b, err := os.ReadFile(path)
	f.must(err)
	f.must(os.WriteFile(f.path, b, 0o600))
}

// Each error that somebody must act on says what to do. With that done, the store
// takes another message, and has the first unless the text says otherwise.
func TestErrors_name_remedies_that_are_right(t *testing.T) {
	const short = 20 * time.Millisecond
	type does = func(f file)
	for name, c := range map[string]struct {
		says   string
		damage does
		opts   sqlitestore.Options
		size   int
		before string // in the transaction
		remedy does
		then   sqlitestore.Options
		kept   int // of the first message; with that of then there is one more
	}{
		"locked, and the other ends": {says: "look for a transaction there that waits for something else", opts: sqlitestore.Options{Busy: short},
			damage: func(f file) { f.Cleanup(f.hold()) }, then: sqlitestore.Options{Busy: short}, kept: 1},
		"full": {says: "the disk or quota is full: free space and run the transaction again", size: 1 << 20,
			before: `PRAGMA max_page_count = 100`, kept: 1},
		"no SQLite file, another path": {says: "look at the path",
			damage: func(f file) { f.must(os.WriteFile(f.path, []byte(strings.Repeat("no database ", 100)), 0o600)) },
			remedy: func(f file) { f.must(os.Rename(f.path, f.path+".other")); f.copyFrom(f.path + ".backup") }, kept: 1},
		"no SQLite file, restored": {says: "or restore the file from a backup, without the -wal and -shm beside it",
			damage: func(f file) { f.must(os.WriteFile(f.path, []byte(strings.Repeat("no database ", 100)), 0o600)) },
			remedy: file.restore, kept: 1},
		"damaged": {says: "the file is damaged: restore it from a backup, without the -wal and -shm beside it",
			damage: file.damage, remedy: file.restore, kept: 1},
		"damaged, and not migrated": {says: "the file is damaged: restore it from a backup", opts: sqlitestore.Options{NoMigration: true},
			damage: file.damage, remedy: file.restore, kept: 1},
		"a directory": {says: "this user needs to read and write the file and its directory",
			damage: func(f file) { f.must(os.Remove(f.path)); f.must(os.Mkdir(f.path, 0o700)) },
			remedy: func(f file) { f.must(os.Remove(f.path)) }},
		"no directory": {says: "make ",
			damage: func(f file) { f.must(os.Rename(filepath.Dir(f.path), filepath.Dir(f.path)+".away")) },
			remedy: func(f file) { f.must(os.Mkdir(filepath.Dir(f.path), 0o700)) }},
		"no tables, and Migrate": {says: "tables are missing or old; run Migrate or `dovetail migrate`", opts: sqlitestore.Options{NoMigration: true},
			damage: func(f file) { f.must(os.Remove(f.path)) }},
		"a prefix that cannot be": {says: "want letters, digits and underscores, not beginning with a digit", opts: sqlitestore.Options{Prefix: "1-x"},
			then: sqlitestore.Options{Prefix: "shop_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := file{t, filepath.Join(t.TempDir(), "data", "shop.db")}
			f.must(os.Mkdir(filepath.Dir(f.path), 0o700))
			f.must(f.write(1, sqlitestore.Options{}))
			f.backup()
			end := func() {}
			if name == "locked, and the other ends" {
				end = f.hold()
			} else if c.damage != nil {
				c.damage(f)
			}
			var before []string
			if c.before != "" {
				before = append(before, c.before)
			}
			if err := f.write(c.size, c.opts, before...); err == nil || strings.Count(err.Error(), c.says) != 1 {
				t.Fatalf("error %v, want one that says %q once", err, c.says)
			}
			end()
			if c.remedy != nil {
				c.remedy(f)
			}
			if err := f.write(c.size, c.then); err != nil {
				t.Fatalf("once that was done: %v", err)
			}
			if n := f.holds(c.then); n != c.kept+1 {
				t.Errorf("once that was done: %d messages, want %d", n, c.kept+1)
			}
		})
	}
}

// backup copies the file, which no process has open.
func (f file) backup() {
	f.Helper()
	b, err := os.ReadFile(f.path)
	f.must(err)
	f.must(os.WriteFile(f.path+".backup", b, 0o600))
}

// damage overwrites everything behind the first page.
func (f file) damage() {
	f.Helper()
	b, err := os.ReadFile(f.path)
	f.must(err)
	for i := range b[4096:] {
		b[4096+i] = 0xaa
	}
	f.must(os.WriteFile(f.path, b, 0o600))
}

// restore does what the errors say: the copy, without what is beside it.
func (f file) restore() {
	f.Helper()
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.Remove(f.path + beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Fatal(err)
		}
	}
	f.copyFrom(f.path + ".backup")
}

// Raised, Busy has a writer wait until the other has ended.
func TestFile_that_is_locked_is_waited_for_once_Busy_is_raised(t *testing.T) {
	t.Parallel()
	f := file{t, filepath.Join(t.TempDir(), "shop.db")}
	f.must(f.write(1, sqlitestore.Options{}))
	end := f.hold()
	if err := f.write(1, sqlitestore.Options{Busy: time.Millisecond}); err == nil || !strings.Contains(err.Error(), "or raise Options.Busy") {
		t.Fatalf("error %v", err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- f.write(1, sqlitestore.Options{Busy: time.Minute}) }()
	select {
	case err := <-wrote:
		t.Fatalf("wrote beside another: %v", err)
	case <-time.After(50 * time.Millisecond): // longer than the one before
	}
	end()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if n := f.holds(sqlitestore.Options{}); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestFile_of_another_service_is_left_alone_as_its_error_says(t *testing.T) {
	t.Parallel()
	f := file{t, filepath.Join(t.TempDir(), "shop.db")}
	relay := func(path, service string, o sqlitestore.Options) error {
		s, err := sqlitestore.Open(t.Context(), path, o)
		f.must(err)
		defer func() { f.must(s.Close()) }()
		term, err := store.Lead(t.Context(), s, 0, service, time.Minute)
		if err != nil {
			return err
		}
		_, err = s.Resume(t.Context(), term, service)
		return errors.Join(err, s.Resign(t.Context(), term.Lease))
	}
	f.must(f.write(1, sqlitestore.Options{}))
	f.must(relay(f.path, "catalog", sqlitestore.Options{}))
	err := relay(f.path, "billing", sqlitestore.Options{})
	if !errors.Is(err, store.ErrOwner) || !strings.Contains(err.Error(), "is catalog's, not billing's: give each service its own Options.Prefix or file") {
		t.Fatalf("error %v", err)
	}
	f.must(relay(f.path, "billing", sqlitestore.Options{Prefix: "billing_"}))
	f.must(relay(f.path+".billing", "billing", sqlitestore.Options{}))
	f.must(relay(f.path, "catalog", sqlitestore.Options{}))
	if n := f.holds(sqlitestore.Options{}); n != 1 {
		t.Errorf("catalog has %d messages, want its 1", n)
	}
}

// What Open is given and cannot use.
func TestOpen_refuses_with_a_remedy_that_is_right(t *testing.T) {
	t.Parallel()
	f := file{t, filepath.Join(t.TempDir(), "shop.db")}
	for says, open := range map[string]func() (*sqlitestore.Store, error){
		"want one": func() (*sqlitestore.Store, error) {
			return sqlitestore.Open(t.Context(), f.path, sqlitestore.Options{}, sqlitestore.Options{})
		},
		"want a file, or package memstore": func() (*sqlitestore.Store, error) { return sqlitestore.Open(t.Context(), ":memory:") },
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %q", err, says)
		}
	}
	f.must(f.write(1, sqlitestore.Options{}))
}

// What Begin and Commit ask for: a longer wait, and all of a transaction again.
func TestTransactions_name_remedies_that_are_right(t *testing.T) {
	t.Parallel()
	f := file{t, filepath.Join(t.TempDir(), "shop.db")}
	begin := func(o sqlitestore.Options) (*sqlitestore.Store, *sql.Tx) {
		s, err := sqlitestore.Open(t.Context(), f.path, o)
		f.must(err)
		t.Cleanup(func() { f.must(s.Close()) })
		tx, err := s.Begin(t.Context())
		f.must(err)
		return s, tx
	}
	s, tx := begin(sqlitestore.Options{Wait: time.Millisecond})
	_, err := s.Begin(t.Context())
	if err == nil || !strings.Contains(err.Error(), "look for one that waits for something else, or raise Options.Wait") {
		t.Fatalf("error %v", err)
	}
	f.must(s.Rollback(t.Context(), tx))
	s, tx = begin(sqlitestore.Options{Wait: time.Minute})
	second := make(chan error, 1)
	go func() {
		tx, err := s.Begin(t.Context())
		if err == nil {
			err = s.Rollback(t.Context(), tx)
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("begun beside another: %v", err)
	case <-time.After(20 * time.Millisecond): // longer than before
	}
	if _, err := tx.ExecContext(t.Context(), `CREATE TABLE counter (key TEXT PRIMARY KEY, n INTEGER NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	f.must(s.Commit(t.Context(), tx, store.Writes{Token: dovetail.NewID()}))
	f.must(<-second)

	work := func(spoil bool) error {
		tx, err := s.Begin(t.Context())
		f.must(err)
		if _, err := count(t.Context(), tx, "first"); err != nil {
			return err
		}
		if spoil {
			interrupt(t.Context(), tx)
		}
		return s.Commit(t.Context(), tx, store.Writes{Token: dovetail.NewID()})
	}
	if err := work(true); err == nil || !strings.Contains(err.Error(), "run all of it again") {
		t.Fatalf("error %v", err)
	}
	f.must(work(false))
	all, err := counts(t.Context(), s.DB())
	if err != nil || all["first"] != 1 || len(all) != 1 {
		t.Errorf("counters %v, %v, want first once and nothing else", all, err)
	}
}
