package pgstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
)

// Notices are as far apart as Options.Notify says, however much is written, and
// come from a connection that is no writer's.
func TestNotices_are_few_and_not_of_the_writers_transactions(t *testing.T) {
	t.Parallel()
	url := servers.Shared(t, servers.Postgres).URL()
	opts := Options{Schema: fmt.Sprintf("t_notify_%d", time.Now().UnixNano()), Notify: 50 * time.Millisecond}
	ctx := t.Context()
	open := func() *Store {
		t.Helper()
		s, err := Open(ctx, url, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s, other := open(), open()
	if _, err := store.Lead(ctx, other, 0, "leader", time.Minute); err != nil { // else there is nobody to tell
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, `LISTEN `+s.topic); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	const writes = 300
	writers := map[uint32]bool{}
	for i := range writes {
		tx, err := s.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		writers[tx.Conn().PgConn().PID()] = true
		if err := s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: fmt.Sprint(i), Channel: "stock", Source: "catalog", Type: "t.v1"}}}); err != nil {
			t.Fatal(err)
		}
	}
	s.notice.stop() // what is left to say is said
	took := time.Since(began)
	if _, err := conn.Exec(ctx, `NOTIFY `+s.topic+`, 'the end'`); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		notice, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if notice.Payload == "the end" {
			break
		}
		if writers[notice.PID] {
			t.Errorf("a notice of the connection %d, which wrote", notice.PID)
		}
		n++
	}
	if most := int(took/opts.Notify) + 1; n == 0 || n > most {
		t.Errorf("%d notices of %d commits in %v, want 1 to %d", n, writes, took, most)
	}
	t.Logf("%d notices of %d commits in %v", n, writes, took)
}
