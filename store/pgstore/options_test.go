package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

func TestOpen_refuses_what_cannot_be_and_names_the_remedy(t *testing.T) {
	t.Parallel()
	url, dir := server(t), t.TempDir()
	opened(t, url, dir, pgstore.Options{Shards: 2})
	for _, c := range []struct {
		url  string
		opts []pgstore.Options
		want string
	}{
		{url, []pgstore.Options{{}, {}}, "want one"},
		{url, []pgstore.Options{{Prefix: "a b"}}, "Options.Prefix"},
		{url, []pgstore.Options{{Schema: `"; DROP`}}, "Options.Schema"},
		{url, []pgstore.Options{{Shards: 65}}, "Options.Shards"},
		{url, []pgstore.Options{{Timeout: -1}}, "Options.Timeout"},
		{url, []pgstore.Options{{Conns: -1}}, "Options.Conns"},
		{url, []pgstore.Options{{Schema: schema(dir), Shards: 3}}, "was made with 2"},
		{url, []pgstore.Options{{Schema: "t_nowhere", NoMigration: true}}, "dovetail migrate"},
		{url + "&search_path=t_nowhere", nil, "set Options.Schema"},
		{"postgres://postgres:geheim@127.0.0.1:1/x?connect_timeout=1", nil, "127.0.0.1:1"},
		{"postgres://postgres:geheim@127.0.0.1:x/x", nil, "open PostgreSQL"},
	} {
		s, err := pgstore.Open(t.Context(), c.url, c.opts...)
		if err == nil {
			must(t, s.Close())
			t.Errorf("%+v was accepted", c.opts)
		} else if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%+v: %v, want %q and no password", c.opts, err, c.want)
		}
	}
}

func TestMigrations_can_be_run_by_hand(t *testing.T) {
	t.Parallel()
	url, name := server(t), schema(t.TempDir())
	ctx := t.Context()
	if _, err := pgstore.Migrations(pgstore.Options{Prefix: "a b"}); err == nil {
		t.Error("migrations of a prefix that cannot be were listed")
	}
	all, err := pgstore.Migrations(pgstore.Options{Schema: name})
	must(t, err)
	text := "CREATE SCHEMA " + name + ";\n"
	for _, m := range all {
		text += m.SQL
	}
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(context.Background())
	_, err = conn.PgConn().Exec(ctx, text).ReadAll()
	must(t, err)
	for _, opts := range []pgstore.Options{{Schema: name, NoMigration: true}, {Schema: name}} {
		s, err := pgstore.Open(ctx, url, opts)
		must(t, err)
		must(t, s.Close())
	}
}

func TestNew_uses_a_pool_that_stays_open(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool, err := pgxpool.New(ctx, server(t))
	must(t, err)
	defer pool.Close()
	opts := pgstore.Options{Schema: schema(t.TempDir())}
	s, err := pgstore.New(ctx, pool, opts)
	must(t, err)
	must(t, s.Close())
	q, err := pgstore.NewSQL(ctx, pool, opts)
	must(t, err)
	tx, err := q.Begin(ctx)
	must(t, err)
	must(t, q.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1), benchMessage(2)}}))
	st, err := q.Stats(ctx, 0)
	must(t, err)
	if st.Backlog != 2 {
		t.Errorf("backlog %d, want 2", st.Backlog)
	}
	must(t, q.Close())
	must(t, pool.Ping(ctx))
}

func TestCalls_end_by_themselves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, counter := opened(t, server(t), dir, pgstore.Options{})
	ctx := context.Background() // no deadline
	small, err := pgstore.Open(ctx, server(t), pgstore.Options{Schema: schema(dir), Conns: 1, Timeout: 2 * time.Second})
	must(t, err)
	defer small.Close()
	tx, err := small.Begin(ctx)
	must(t, err)
	if _, err := small.Begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("begin without a free connection: %v", err)
	}
	other, err := s.Begin(ctx)
	must(t, err)
	entry := []store.Entry{{Key: store.Key{Group: "g", Handler: "h", Source: "s", ID: "1"}, Since: time.Now()}}
	_, err = s.Insert(ctx, other, entry)
	must(t, err)
	if _, err := small.Insert(ctx, tx, entry); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("enter behind another: %v", err)
	}
	must(t, small.Rollback(ctx, tx))
	must(t, s.Rollback(ctx, other))
	tx, err = small.Begin(ctx)
	must(t, err)
	var n int64
	must(t, tx.QueryRow(ctx, countSQL(counter), "tea").Scan(&n))
	must(t, small.Rollback(ctx, tx))
	if _, err := tx.Exec(ctx, `SELECT 1`); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("a statement after the end: %v", err)
	}
}

// A statement that failed and that nobody cared about: COMMIT says ROLLBACK.
func TestCommit_of_a_broken_transaction_is_an_error(t *testing.T) {
	t.Parallel()
	s, _ := opened(t, server(t), t.TempDir(), pgstore.Options{})
	ctx := t.Context()
	tx, err := s.Begin(ctx)
	must(t, err)
	if _, err := tx.Exec(ctx, `SELECT 1/0`); err == nil {
		t.Fatal("a division by zero succeeded")
	}
	if err := s.Commit(ctx, tx, store.Writes{}); err == nil || errors.Is(err, store.ErrUnknown) {
		t.Errorf("commit: %v, want an error without doubt", err)
	}
	foreign, err := s.Pool().Begin(ctx)
	must(t, err)
	if err := s.Commit(ctx, foreign, store.Writes{}); err == nil {
		t.Error("a transaction that the store has not begun was committed by it")
	}
	must(t, s.Rollback(ctx, foreign))
	var deadlock error = fmt.Errorf("x: %w", s.Rollback(ctx, foreign))
	if pgstore.Retryable(deadlock) {
		t.Error("everything may be tried again")
	}
	_, err = s.Pool().Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$`)
	if !pgstore.Retryable(err) {
		t.Errorf("%v may not be tried again", err)
	}
}

func TestFail_over_that_undid_windows_begins_a_new_term(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx := t.Context()
	term, err := store.Lead(ctx, s, 0, "leader", time.Minute)
	must(t, err)
	c, err := s.Resume(ctx, term, "catalog")
	must(t, err)
	limit := store.Limit{Rows: 10, Bytes: 1000}
	put := func() {
		tx, err := s.Begin(ctx)
		must(t, err)
		must(t, s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1)}}))
	}
	put()
	page, err := s.Next(ctx, term, c.Position, store.Position{}, limit)
	must(t, err)
	after := page.Rows[0].Position
	_, err = s.Pool().Exec(ctx, `DELETE FROM `+schema(dir)+`.dovetail_window WHERE n = $1`, after.Window)
	must(t, err)
	if err := s.Advance(ctx, term, store.Progress{To: after}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("advance to a window that is gone: %v, want ErrFenced", err)
	}
	for range 2 {
		if _, err := s.Next(ctx, term, after, store.Position{}, limit); !errors.Is(err, store.ErrFenced) {
			t.Errorf("next after a window that is gone: %v, want ErrFenced", err)
		}
	}
	c, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	page, err = s.Next(ctx, term, c.Position, store.Position{}, limit)
	must(t, err)
	if len(page.Rows) != 1 {
		t.Errorf("%d rows after the term was resumed, want 1", len(page.Rows))
	}
}

// The tables' owner need not be a superuser.
func TestOwner_of_a_schema_may_do_everything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	admin, err := pgx.Connect(t.Context(), server(t))
	must(t, err)
	defer admin.Close(context.Background())
	role := schema(dir)
	_, err = admin.PgConn().Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'x'; CREATE SCHEMA %[1]s AUTHORIZATION %[1]s`, role)).ReadAll()
	must(t, err)
	u, err := url.Parse(server(t))
	must(t, err)
	u.User = url.UserPassword(role, "x")
	s, counter := opened(t, u.String(), dir, pgstore.Options{})
	var super bool
	must(t, s.Pool().QueryRow(t.Context(), `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&super))
	if super {
		t.Fatal("the test's user is a superuser")
	}
	fastLeaves(t, s.Pool(), dir)
	l := newRecorder()
	relaying(t, s, l, outbox.Options{CleanupInterval: 20 * time.Millisecond, CursorInterval: time.Millisecond})
	box := outbox.New(newStub(1<<60), s, outbox.Options{NoRelay: true})
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		if err := business(t.Context(), box, counter, r); err != nil && err != errNot {
			t.Fatal(err)
		}
	}
	published(t, s)
	for left := int64(1); left > 0; {
		_, left = retired(t, s, dir)
		pause(t, 10*time.Millisecond)
	}
	all, err := counts(t.Context(), s.Pool(), counter)
	must(t, err)
	l.compare(t, all, 0)
}
