package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// fastLeaves has each leaf partition written for 100 ms instead of a minute.
func fastLeaves(t testing.TB, pool *pgxpool.Pool, dir string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `CREATE OR REPLACE FUNCTION `+schema(dir)+`.dovetail_slot() RETURNS smallint LANGUAGE sql VOLATILE AS
		'SELECT (floor(extract(epoch FROM pg_catalog.clock_timestamp()) * 10)::bigint % 8)::smallint'`)
	must(t, err)
}

// retired is how many rows were inserted into the outbox and are not there
// any more.
func retired(t *testing.T, s *pgstore.Store, dir string) (inserted, left int64) {
	t.Helper()
	must(t, s.Pool().QueryRow(t.Context(), `SELECT last_value, (SELECT count(*) FROM `+schema(dir)+`.dovetail_outbox) FROM `+schema(dir)+`.dovetail_seq`).Scan(&inserted, &left))
	return inserted, left
}

// Writers that wait for a lock for more than a second fail, and so does the test:
// those who dropped partitions waited for five.
func TestRetire_truncates_leaves_without_making_writers_wait(t *testing.T) {
	dir := t.TempDir()
	url := server(t)
	s, counter := opened(t, url, dir, pgstore.Options{})
	fastLeaves(t, s.Pool(), dir)
	busy, _ := opened(t, url+"&lock_timeout=1000", dir, pgstore.Options{Conns: 12})
	l := newRecorder()
	relaying(t, s, l, outbox.Options{CleanupInterval: 20 * time.Millisecond, CursorInterval: 10 * time.Millisecond})
	box := outbox.New(newStub(1<<60), busy, outbox.Options{NoRelay: true})
	ctx := t.Context()
	var wg sync.WaitGroup
	until := time.Now().Add(3 * time.Second)
	wg.Go(func() { // holds on to a leaf, which must not go while it does
		for time.Now().Before(until) {
			tx, err := s.Begin(ctx)
			must(t, err)
			var n int64
			must(t, tx.QueryRow(ctx, countSQL(counter), "slow").Scan(&n))
			must(t, s.Write(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: fmt.Sprintf("slow/%d", n), Channel: "stock", Key: "slow", Source: "catalog", Type: "t.v1"}}}))
			pause(t, 900*time.Millisecond)
			must(t, s.Commit(ctx, tx, store.Writes{}))
		}
	})
	var longest time.Duration
	var mu sync.Mutex
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 5))
			for time.Now().Before(until) {
				began := time.Now()
				if err := business(ctx, box, counter, r); err != nil && err != errNot {
					t.Errorf("writer: %v", err)
					return
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	published(t, s)
	all, err := counts(ctx, s.Pool(), counter)
	must(t, err)
	l.compare(t, all, 0)
	inserted, left := retired(t, s, dir)
	t.Logf("%d numbers given out, %d rows left; the longest transaction took %v", inserted, left, longest)
	if left > inserted/2 {
		t.Errorf("%d of about %d rows are left: leaves are not retired", left, inserted)
	}
}

// What is not published stays, however old, and so does what is covered only in
// part.
func TestRetire_keeps_what_is_not_published(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	fastLeaves(t, s.Pool(), dir)
	ctx := t.Context()
	put := func(id string) {
		tx, err := s.Begin(ctx)
		must(t, err)
		must(t, s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: id, Channel: "stock", Source: "catalog", Type: "t.v1"}}}))
	}
	term, err := store.Lead(ctx, s, 0, "leader", time.Minute)
	must(t, err)
	_, err = s.Resume(ctx, term, "catalog")
	must(t, err)
	limit := store.Limit{Rows: 100, Bytes: 1 << 20}
	retire := func(p store.Position) {
		for range 10 {
			pause(t, 60*time.Millisecond)
			_, err := s.Retire(ctx, term, store.Retirement{Through: p}, 100)
			must(t, err)
		}
	}
	put("1")
	page, err := s.Next(ctx, term, store.Position{}, store.Position{}, limit)
	must(t, err)
	one := page.Rows[0].Position
	put("2")
	page, err = s.Next(ctx, term, one, store.Position{}, limit)
	must(t, err)
	two := page.Rows[0].Position
	retire(two) // as if it were published; but the cursor has not come there
	must(t, s.Advance(ctx, term, store.Progress{To: one}))
	open, err := s.Pool().BeginTx(ctx, pgx.TxOptions{})
	must(t, err)
	must(t, s.Write(ctx, open, store.Writes{Messages: []*driver.Message{{ID: "3", Channel: "stock", Source: "catalog", Type: "t.v1"}}}))
	retire(two)
	must(t, open.Commit(ctx))
	retire(two)
	page, err = s.Next(ctx, term, one, store.Position{}, limit)
	must(t, err)
	if len(page.Rows) != 1 || page.Rows[0].Message.ID != "2" {
		t.Fatalf("after the first: %+v", page)
	}
	must(t, s.Advance(ctx, term, store.Progress{To: two}))
	retire(two)
	page, err = s.Next(ctx, term, two, store.Position{}, limit)
	must(t, err)
	if len(page.Rows) != 1 || page.Rows[0].Message.ID != "3" {
		t.Fatalf("after the second: %+v", page)
	}
	three := page.Rows[0].Position
	must(t, s.Advance(ctx, term, store.Progress{To: three}))
	retire(three)
	if _, left := retired(t, s, dir); left != 0 {
		t.Errorf("%d rows are left when all is published", left)
	}
}

func TestListen_hears_of_what_another_process_wrote(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	other, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	woken := s.Signal().Wait()
	ended := make(chan error, 1)
	go func() { ended <- s.Listen(ctx, func() {}) }()
	wait := func(what string) {
		t.Helper()
		select {
		case <-woken:
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(10 * time.Second):
			t.Fatalf("not woken %s", what)
		}
	}
	wait("when it began to listen")
	_, err := store.Lead(ctx, s, 0, "leader", time.Minute) // else there is nobody to tell
	must(t, err)
	woken = s.Signal().Wait()
	tx, err := other.Begin(ctx)
	must(t, err)
	must(t, other.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{benchMessage(1)}}))
	wait("when another process wrote")
	cancel()
	<-ended
}
