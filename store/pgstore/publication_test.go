package pgstore_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// Whoever reads the log with Debezium has a publication of all tables, and
// PostgreSQL then refuses to update and delete rows without an identity.
func TestPublication_of_all_tables_keeps_nothing_from_working(t *testing.T) {
	t.Parallel()
	url, dir := servers.Start(t, servers.Postgres).URL(), t.TempDir()
	s, counter := opened(t, url, dir, pgstore.Options{})
	ctx := t.Context()
	_, err := s.Pool().Exec(ctx, `CREATE PUBLICATION everything FOR ALL TABLES`)
	must(t, err)
	fastLeaves(t, s.Pool(), dir)
	l := newRecorder()
	box := relayBox(t, s, l)
	for i := range 30 { // numbered a second time at the commit: an update
		tx, err := s.Begin(ctx)
		must(t, err)
		must(t, box.Sender(tx).Send(ctx, []*driver.Message{{ID: fmt.Sprint(i), Channel: "stock", Key: "tea", Source: "catalog", Type: "t.v1"}}))
		var n int64
		must(t, tx.QueryRow(ctx, countSQL(counter), "tea").Scan(&n))
		must(t, s.Commit(ctx, tx, store.Writes{Token: fmt.Sprint("token ", i)}))
		box.Wake()
	}
	published(t, s)
	deadline := time.Now().Add(20 * time.Second)
	for {
		var left int
		must(t, s.Pool().QueryRow(ctx, `SELECT count(*) FROM `+schema(dir)+`.dovetail_outbox`).Scan(&left))
		st, err := box.Stats(ctx)
		must(t, err)
		if st.Trouble != "" {
			t.Fatalf("trouble: %s", st.Trouble)
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d published rows are left", left)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// relayBox runs a relay until the test ends.
func relayBox(t *testing.T, s *pgstore.Store, l *recorder) *outbox.Box[pgx.Tx] {
	t.Helper()
	svc := newStub(1 << 60)
	svc.take = l.take
	box := outbox.New(svc, s, outbox.Options{CleanupInterval: 20 * time.Millisecond, CursorInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return box
}

// Logical replication brings rows and leaves sequences behind: a number that is
// given out a second time must not lose a message.
func TestSequences_that_stand_behind_the_rows_are_set(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx := t.Context()
	put := func(s *pgstore.Store, ids ...string) {
		t.Helper()
		tx, err := s.Begin(ctx)
		must(t, err)
		var w store.Writes
		for _, id := range ids {
			w.Messages = append(w.Messages, &driver.Message{ID: id, Channel: "stock", Key: "tea", Source: "catalog", Type: "t.v1"})
			w.Later = append(w.Later, &driver.Message{ID: "later " + id, Channel: "stock", Source: "catalog", Type: "t.v1", Due: time.Now().Add(time.Hour)})
		}
		must(t, s.Commit(ctx, tx, w))
	}
	put(s, "a", "b", "c")
	term, err := store.Lead(ctx, s, 0, "leader", time.Minute)
	must(t, err)
	_, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	limit := store.Limit{Rows: 10, Bytes: 1 << 20}
	page, err := s.Next(ctx, term, store.Position{}, store.Position{}, limit)
	must(t, err)
	hold := func(r store.Row) {
		t.Helper()
		must(t, s.Advance(ctx, term, store.Progress{To: r.Position, Hold: []store.Held{{Row: r, Since: time.Now(),
			Lane: store.Lane{Channel: "stock", Name: store.LaneOf(r.Message), Error: "no"}}}}))
	}
	for _, r := range page.Rows {
		hold(r)
	}
	_, err = s.Pool().Exec(ctx, strings.NewReplacer("~", schema(dir)+".dovetail_").Replace(`UPDATE ~cursor SET system = 'another'; UPDATE ~lease SET system = 'another';
		ALTER SEQUENCE ~seq RESTART; ALTER TABLE ~later ALTER COLUMN n RESTART; TRUNCATE ~outbox`))
	must(t, err)
	s, err = pgstore.Open(ctx, server(t), pgstore.Options{Schema: schema(dir)})
	must(t, err)
	defer s.Close()
	put(s, "d")
	term, err = store.Lead(ctx, s, 0, "successor", time.Minute)
	must(t, err)
	c, err := s.Resume(ctx, term, "catalog")
	must(t, err)
	page, err = s.Next(ctx, term, c.Position, store.Position{}, limit)
	must(t, err)
	if len(page.Rows) != 1 {
		t.Fatalf("outbox %+v", page.Rows)
	}
	hold(page.Rows[0])
	held, err := s.Browse(ctx, 0, store.Position{}, 10)
	must(t, err)
	var ids []string
	for _, h := range held {
		ids = append(ids, h.Message.ID)
	}
	if fmt.Sprint(ids) != "[a b c d]" {
		t.Errorf("held %v, want a to d", ids)
	}
}

func TestOpen_by_a_role_that_cannot_tidy_up_names_the_remedy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	role := schema(dir)
	ctx := t.Context()
	grant := func(text string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, server(t))
		must(t, err)
		defer conn.Close(context.Background())
		_, err = conn.PgConn().Exec(ctx, strings.ReplaceAll(text, "$", role)).ReadAll()
		must(t, err)
	}
	grant(`CREATE ROLE $ LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA $ TO $; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA $ TO $;
		GRANT USAGE, UPDATE, SELECT ON ALL SEQUENCES IN SCHEMA $ TO $`)
	u, err := url.Parse(server(t))
	must(t, err)
	u.User = url.UserPassword(role, "x")
	opts := pgstore.Options{Schema: schema(dir), NoMigration: true}
	if limited, err := pgstore.Open(ctx, u.String(), opts); err == nil {
		must(t, limited.Close())
		t.Error("a role that cannot tidy up opened the outbox")
	} else if !strings.Contains(err.Error(), "TRUNCATE") {
		t.Errorf("open: %v, want the right named that is missing", err)
	}
	grant(`GRANT TRUNCATE ON ALL TABLES IN SCHEMA $ TO $`)
	limited, err := pgstore.Open(ctx, u.String(), opts)
	must(t, err)
	must(t, limited.Close())
	grant(`REVOKE ALL ON $.dovetail_cursor FROM $; REVOKE TRUNCATE ON ALL TABLES IN SCHEMA $ FROM $`)
	writer, err := pgstore.Open(ctx, u.String(), opts) // it only writes
	must(t, err)
	tx, err := writer.Begin(ctx)
	must(t, err)
	must(t, writer.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1)}}))
	must(t, writer.Close())
	st, err := s.Stats(ctx, 0)
	must(t, err)
	if st.Backlog != 1 {
		t.Errorf("backlog %d, want what the writer wrote", st.Backlog)
	}
}

// Commits whose connections hang are looked into, and must not take the
// connections that the relay publishes with.
func TestResolve_of_many_commits_that_hang_leaves_the_relay_its_connections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx := t.Context()
	const hanging = 10
	for i := range hanging {
		tx, err := s.Pool().Begin(ctx)
		must(t, err)
		defer tx.Rollback(context.Background())
		_, err = tx.Exec(ctx, `INSERT INTO `+schema(dir)+`.dovetail_token (token) VALUES ($1)`, fmt.Sprint("hangs ", i))
		must(t, err)
	}
	wait, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	resolved := make(chan error, hanging)
	for i := range hanging {
		go func() {
			_, err := s.Resolve(wait, fmt.Sprint("hangs ", i))
			resolved <- err
		}()
	}
	l := newRecorder()
	relaying(t, s, l, outbox.Options{})
	began := time.Now()
	tx, err := s.Begin(ctx)
	must(t, err)
	must(t, s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1)}}))
	published(t, s)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the relay published after %v", took)
	}
	cancel()
	for range hanging {
		if err := <-resolved; err == nil {
			t.Error("a commit that hangs was resolved")
		}
	}
}
