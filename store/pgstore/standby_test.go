package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// standby sets which standby the server's commits wait for, and waits until they
// do, or do not any more.
func standby(t *testing.T, s *pgstore.Store, name string) {
	t.Helper()
	_, err := s.Pool().Exec(t.Context(), `ALTER SYSTEM SET synchronous_standby_names = '`+name+`'`)
	must(t, err)
	_, err = s.Pool().Exec(t.Context(), `SELECT pg_reload_conf()`)
	must(t, err)
	for waits := name == ""; waits == (name == ""); {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := s.Pool().Exec(ctx, `SELECT pg_logical_emit_message(true, 'test', '')`)
		cancel()
		waits = err != nil
	}
}

// A client whose patience ends has the server cancel what it does. The wait for a
// standby ends with it, and what was committed is there for all to see, while no
// standby has it: it would be gone with the server.
func TestWhat_no_standby_has_is_not_taken_for_committed(t *testing.T) {
	t.Parallel()
	srv := servers.Start(t, servers.Postgres)
	ctx := t.Context()
	dir := t.TempDir()
	s, counter := opened(t, srv.URL(), dir, pgstore.Options{})
	impatient, err := pgstore.Open(ctx, srv.URL(), pgstore.Options{Schema: schema(dir), Timeout: 1500 * time.Millisecond, NoMigration: true})
	must(t, err)
	defer impatient.Close()
	term, err := store.Lead(ctx, s, 0, "test", time.Hour)
	must(t, err)
	_, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	entry := store.Entry{Key: store.Key{Group: "shop", Handler: "h", Source: "s", ID: "1"}, Since: time.Now()}
	handle := func(s *pgstore.Store) (store.State, error) {
		tx, err := s.Begin(ctx)
		must(t, err)
		found, err := s.Insert(ctx, tx, []store.Entry{entry})
		must(t, err)
		return found[0].State, s.Commit(ctx, tx, store.Writes{})
	}
	next := func(s *pgstore.Store) ([]store.Row, error) {
		page, err := s.Next(ctx, term, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
		return page.Rows, err
	}
	tx, err := s.Begin(ctx)
	must(t, err)
	must(t, s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1)}}))

	standby(t, s, "nobody")
	box := outbox.New(newStub(1<<60), impatient, outbox.Options{NoRelay: true, Resolve: 2 * time.Second})
	err = box.Do(ctx, func(ctx context.Context, tx pgx.Tx, _ dovetail.Sender) error {
		_, err := tx.Exec(ctx, countSQL(counter), "tea")
		return err
	})
	if !errors.Is(err, dovetail.ErrUnknownOutcome) {
		t.Errorf("a commit: %v, want an unknown outcome", err)
	}
	tx, err = impatient.Begin(ctx)
	must(t, err)
	if err := impatient.Commit(ctx, tx, store.Writes{Token: "waits"}); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("a commit: %v, want that it is unknown", err)
	}
	if committed, err := impatient.Resolve(ctx, "waits"); err == nil {
		t.Errorf("resolved: committed %v, want an error", committed)
	}
	for i := range 2 {
		if rows, err := next(impatient); err == nil {
			t.Errorf("read %d: %d rows of a window that no standby knows", i, len(rows))
		}
		if state, err := handle(impatient); err == nil {
			t.Errorf("message that comes for the %d. time: state %q", i+1, state)
		}
	}
	if found, err := impatient.Lookup(ctx, []store.Key{entry.Key}); err == nil {
		t.Errorf("looked up: state %q", found[0].State)
	}

	standby(t, s, "")
	if committed, err := s.Resolve(ctx, "waits"); err != nil || !committed {
		t.Errorf("resolved: committed %v, %v", committed, err)
	}
	if rows, err := next(s); err != nil || len(rows) != 1 {
		t.Errorf("read %d rows, %v, want 1", len(rows), err)
	}
	if state, err := handle(s); err != nil || state != store.Handled {
		t.Errorf("message that comes again: state %q, %v", state, err)
	}
	all, err := counts(ctx, s.Pool(), counter)
	must(t, err)
	if all["tea"] != 1 {
		t.Errorf("the counter is %d, want 1", all["tea"])
	}
}
