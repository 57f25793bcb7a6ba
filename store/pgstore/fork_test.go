package pgstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// A fork is what connects a store to two servers, as a name does that is given to
// another server in a fail-over: the connection that is asked for as the nth goes
// to the new one if isNew(n) says so.
type fork struct {
	mu       sync.Mutex
	old, new *pgx.ConnConfig
	n        int
	isNew    func(n int) bool
}

func (f *fork) set(isNew func(n int) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.isNew = 0, isNew
}

// config connects through the fork.
func (f *fork) config(t *testing.T, old, new string) *pgxpool.Config {
	t.Helper()
	config, err := pgxpool.ParseConfig(old)
	must(t, err)
	f.old = config.ConnConfig.Copy()
	f.new, err = pgx.ParseConfig(new)
	must(t, err)
	f.set(func(int) bool { return false })
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		to := f.old
		if f.isNew(f.n) {
			to = f.new
		}
		c.Host, c.Port, c.Fallbacks = to.Host, to.Port, nil
		return nil
	}
	config.PrepareConn = func(_ context.Context, c *pgx.Conn) (bool, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.isNew(f.n) != (c.Config().Port == f.new.Port) {
			return false, nil // the next one goes where it should
		}
		f.n++
		return true, nil
	}
	return config
}

// In a fail-over some connections of a pool are to the old primary still and some
// to the new one. What the old one shows is proved by a commit of its own only.
func TestWhat_one_server_shows_is_not_proved_by_a_commit_of_another(t *testing.T) {
	t.Parallel()
	srv := servers.Start(t, servers.Postgres)
	ctx := t.Context()
	dir := t.TempDir()
	s, _ := opened(t, srv.URL(), dir, pgstore.Options{})
	opened(t, server(t), dir, pgstore.Options{})
	var f fork
	pool, err := pgxpool.NewWithConfig(ctx, f.config(t, srv.URL(), server(t)))
	must(t, err)
	defer pool.Close()
	forked, err := pgstore.New(ctx, pool, pgstore.Options{Schema: schema(dir), Timeout: 1500 * time.Millisecond, NoMigration: true})
	must(t, err)
	defer forked.Close()
	term, err := store.Lead(ctx, s, 0, "test", time.Hour)
	must(t, err)
	_, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	next := func(ctx context.Context, s *pgstore.Store) (store.Page, error) {
		return s.Next(ctx, term, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
	}
	_, err = next(ctx, s)
	must(t, err)

	standby(t, s, "nobody")
	entry := store.Entry{Key: store.Key{Group: "shop", Handler: "h", Source: "s", ID: "1"}, Since: time.Now()}
	cutShort(t, s, false, func(ctx context.Context) error {
		tx, err := s.Begin(ctx)
		must(t, err)
		_, err = s.Insert(ctx, tx, []store.Entry{entry})
		must(t, err)
		return s.Commit(ctx, tx, store.Writes{Token: "waits", Messages: []*driver.Message{benchMessage(1)}})
	})
	cutShort(t, s, false, func(ctx context.Context) error { _, err := next(ctx, s); return err })

	second := func(n int) bool { return n == 1 }
	f.set(second)
	if page, err := next(ctx, forked); err == nil {
		t.Errorf("%d rows of a window that the new server does not know", len(page.Rows))
	}
	f.set(second)
	if found, err := forked.Lookup(ctx, []store.Key{entry.Key}); err == nil {
		t.Errorf("looked up: state %q, which the new server does not know", found[0].State)
	}
	f.set(func(n int) bool { return n > 0 })
	if committed, err := forked.Resolve(ctx, "waits"); err == nil {
		t.Errorf("resolved: committed %v, of which the new server knows nothing", committed)
	}
}
