package pgstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// cutShort has the wait of a commit for its standby cut short, by the end of its
// client's patience or by an operator. Its client must not be told of a commit.
func cutShort(t *testing.T, s *pgstore.Store, operator bool, commit func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- commit(ctx) }()
	waiting := func(yes bool) {
		t.Helper()
		for is := !yes; is != yes; {
			select {
			case err := <-done:
				if yes {
					t.Fatalf("it ended by itself: %v", err)
				}
			default:
			}
			must(t, s.Pool().QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')`).Scan(&is))
		}
	}
	waiting(true)
	if operator {
		_, err := s.Pool().Exec(t.Context(), `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
		must(t, err)
	} else {
		cancel()
	}
	if err := <-done; err == nil {
		t.Error("a commit whose wait was cut short is told as committed")
	}
	waiting(false)
}

// The server answers a commit whose wait was cancelled like any other one.
func TestCommit_whose_wait_is_cancelled_is_unknown(t *testing.T) {
	t.Parallel()
	srv := servers.Start(t, servers.Postgres)
	ctx := t.Context()
	dir := t.TempDir()
	s, _ := opened(t, srv.URL(), dir, pgstore.Options{})
	opts := pgstore.Options{Schema: schema(dir), NoMigration: true}
	overSQL, err := pgstore.OpenSQL(ctx, srv.URL(), opts)
	must(t, err)
	defer overSQL.Close()
	term, err := store.Lead(ctx, s, 0, "test", time.Hour)
	must(t, err)
	_, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	next := func(ctx context.Context) error {
		_, err := s.Next(ctx, term, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
		return err
	}
	must(t, next(ctx))
	entry := store.Entry{Key: store.Key{Group: "shop", Handler: "h", Source: "s", ID: "1"}, Since: time.Now()}
	enter := func(s *pgstore.Store) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			tx, err := s.Begin(ctx)
			if err == nil {
				_, err = s.Insert(ctx, tx, []store.Entry{entry})
			}
			if err != nil {
				return err
			}
			return unknown(t, s.Commit(ctx, tx, store.Writes{Token: "waits", Messages: []*driver.Message{benchMessage(1)}}))
		}
	}
	write := func(s *pgstore.SQLStore, token string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			tx, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			return unknown(t, s.Commit(ctx, tx, store.Writes{Token: token}))
		}
	}
	standby(t, s, "nobody")
	for name, commit := range map[string]func(ctx context.Context) error{
		"Commit": enter(s), "database/sql": write(overSQL, "sql"),
	} {
		t.Run(name, func(t *testing.T) { cutShort(t, s, true, commit) })
	}
	for name, commit := range map[string]func(ctx context.Context) error{
		"Resolve": func(ctx context.Context) error { _, err := s.Resolve(ctx, "waits"); return err },
		"Lookup":  func(ctx context.Context) error { _, err := s.Lookup(ctx, []store.Key{entry.Key}); return err },
		"Next":    next, // opens a window
	} {
		t.Run(name, func(t *testing.T) { cutShort(t, s, true, commit) })
	}
	t.Run("Next again", func(t *testing.T) { cutShort(t, s, true, next) })

	// The end of a context has the server cancel the wait, and pgx read its answer.
	config, err := pgxpool.ParseConfig(srv.URL())
	must(t, err)
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Minute}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(t, err)
	defer pool.Close()
	over, err := pgstore.New(ctx, pool, opts)
	must(t, err)
	defer over.Close()
	sqlOver, err := pgstore.NewSQL(ctx, pool, opts)
	must(t, err)
	defer sqlOver.Close()
	t.Run("pool", func(t *testing.T) {
		cutShort(t, s, false, func(ctx context.Context) error {
			tx, err := over.Begin(ctx)
			if err != nil {
				return err
			}
			return unknown(t, over.Commit(ctx, tx, store.Writes{Token: "of a pool"}))
		})
	})
	t.Run("pool, database/sql", func(t *testing.T) { cutShort(t, s, false, write(sqlOver, "sql of a pool")) })
	t.Run("pool, Resolve", func(t *testing.T) {
		cutShort(t, s, false, func(ctx context.Context) error { _, err := over.Resolve(ctx, "waits"); return err })
	})
	t.Run("others go on", func(t *testing.T) {
		waiting, end := context.WithCancel(ctx)
		var all sync.WaitGroup
		defer all.Wait()
		defer end()
		for range 8 {
			all.Go(func() { _, _ = s.Lookup(waiting, []store.Key{entry.Key}) })
		}
		for n := 0; n < 3; {
			must(t, s.Pool().QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&n))
		}
		soon, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := s.Stats(soon, 0); err != nil {
			t.Errorf("while look-ups wait for a standby, stats: %v", err)
		}
	})
	standby(t, s, "")
	if committed, err := over.Resolve(ctx, "waits"); err != nil || !committed {
		t.Errorf("resolved: committed %v, %v", committed, err)
	}
}

// unknown is an error of a commit, which says that its outcome is unknown.
func unknown(t *testing.T, err error) error {
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		t.Errorf("%v, want that the outcome is unknown", err)
	}
	return err
}
