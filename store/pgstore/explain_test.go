package pgstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
)

// explain returns the plan of a statement as it is prepared for any arguments.
func explain(t *testing.T, s *Store, text string, args ...any) string {
	t.Helper()
	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Rollback(t.Context(), tx)
	for _, set := range []string{`SET LOCAL plan_cache_mode = force_generic_plan`, `SET LOCAL jit = off`} {
		if _, err := tx.Exec(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) `+s.sql(text), args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		b.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A million published rows that are retained, another window of a hundred
// thousand, and a few new rows: nothing that the relay asks scans the table,
// whether PostgreSQL has statistics of it or not.
func TestNext_uses_the_index_in_a_table_of_a_million_rows(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), servers.Start(t, servers.Postgres).URL(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ctx := t.Context()
	fill := func(n int) {
		t.Helper()
		if _, err := s.Pool().Exec(ctx, s.sql(`INSERT INTO ~outbox (slot, shard, id, channel, key, headers, body, reorder)
			SELECT n % 8, 0, n, 'stock', 'k' || n % 100, E'\n', 'body', false FROM generate_series(1, $1::int) n`), n); err != nil {
			t.Fatal(err)
		}
	}
	term, err := store.Lead(ctx, s, 0, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resume(ctx, term, "catalog"); err != nil {
		t.Fatal(err)
	}
	var after store.Position
	next := func(limit int) (n int, took time.Duration) {
		t.Helper()
		began := time.Now()
		page, err := s.Next(ctx, term, after, store.Position{}, store.Limit{Rows: limit, Bytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if n = len(page.Rows); n > 0 {
			after = page.Rows[n-1].Position
		}
		return n, time.Since(began)
	}
	// publishAll moves the cursor to the end of the window that was opened last.
	publishAll := func() {
		t.Helper()
		after.Seq = s.states[0].windows[len(s.states[0].windows)-1].hi
		if err := s.Advance(ctx, term, store.Progress{To: after}); err != nil {
			t.Fatal(err)
		}
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			if _, err := s.Pool().Exec(ctx, s.sql(`ANALYZE ~outbox`)); err != nil {
				t.Fatal(err)
			}
		} else {
			for range 4 {
				fill(250_000)
			}
			if n, took := next(500); n != 500 {
				t.Fatalf("%d rows", n)
			} else {
				t.Logf("first page of a window of a million: %v", took)
			}
			publishAll()
		}
		fill(100_000)
		n, first := next(500)
		m, second := next(500)
		if n != 500 || m != 500 {
			t.Fatalf("pages of %d and %d rows, want 500", n, m)
		}
		large := append([]window(nil), s.states[0].windows[len(s.states[0].windows)-2:]...)
		publishAll()
		idle := time.Hour
		for range 10 { // the best of ten, since others use the machine
			n, took := next(500)
			if n != 0 {
				t.Fatalf("%d rows when there are none", n)
			}
			idle = min(idle, took)
		}
		fill(20)
		small := large[1]
		plans := map[string]string{
			"open":        explain(t, s, openSQL, fenceArgs(term, 0, small.snapshot, small.n+1, smallRows, 500, 8<<20, 0, 0)...),
			"read large":  explain(t, s, readLargeSQL, 0, large[0].snapshot, large[1].snapshot, 500, large[1].lo, large[1].lo, large[1].hi, 8<<20),
			"read small":  explain(t, s, readSmallSQL, 0, large[1].snapshot, large[1].snapshot, smallRows, 0, 500, 8<<20),
			"find near":   explain(t, s, nearSQL, 0, large[0].snapshot, large[1].snapshot, nearRows),
			"count":       explain(t, s, countSQL, 0, large[0].snapshot, large[1].snapshot, countedRows),
			"find bounds": explain(t, s, lowSQL, 0, large[0].snapshot, large[1].snapshot),
			"stats":       explain(t, s, statsSQL, 0, statsRows),
		}
		for name, plan := range plans {
			if strings.Contains(plan, "Seq Scan on dovetail_outbox") {
				t.Errorf("analyzed=%v: %s scans the table:\n%s", analyzed, name, plan)
			}
		}
		if n, took := next(500); n != 20 {
			t.Fatalf("%d new rows, want 20", n)
		} else {
			t.Logf("analyzed=%v: pages of 500 of 100,000: %v, %v; nothing new: %v; 20 new: %v", analyzed, first, second, idle, took)
		}
		publishAll()
		if idle > 100*time.Millisecond {
			t.Errorf("to find nothing new takes %v", idle)
		}
	}
	if after.Seq == 0 {
		t.Error(fmt.Sprint("nothing was read: ", after))
	}
}

// A snapshot window is larger than what is counted: its bounds are found in the
// order of seq.
func TestMeasure_finds_the_bounds_of_a_window_either_way(t *testing.T) {
	url := servers.Shared(t, servers.Postgres).URL()
	s, err := Open(t.Context(), url, Options{Schema: fmt.Sprintf("t_measure_%d", time.Now().UnixNano())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ctx := t.Context()
	late, err := s.Begin(ctx) // its row has the lowest seq, and is in progress in the first snapshot
	if err != nil {
		t.Fatal(err)
	}
	put := func(ids ...int) {
		t.Helper()
		var ms []*driver.Message
		for _, id := range ids {
			ms = append(ms, &driver.Message{ID: fmt.Sprint(id), Channel: "stock", Source: "catalog", Type: "t.v1"})
		}
		tx, err := s.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx, tx, store.Writes{Messages: ms}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := late.Exec(ctx, s.sql(`INSERT INTO ~outbox (shard, id, channel, key, headers, reorder) VALUES (0, 'late', 'stock', '', E'source: catalog\ntype: t.v1\n\n', false)`)); err != nil {
		t.Fatal(err)
	}
	var first, second string
	snapshot := func(to *string) {
		t.Helper()
		if err := s.Pool().QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(to); err != nil {
			t.Fatal(err)
		}
	}
	put(1, 2, 3)
	snapshot(&first)
	put(4, 5)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	snapshot(&second)
	put(6)
	var n, lo, hi, lo2, hi2 int64
	if err := s.Pool().QueryRow(ctx, s.sql(countSQL), 0, first, second, countedRows).Scan(&n, &lo, &hi); err != nil {
		t.Fatal(err)
	}
	if err := s.Pool().QueryRow(ctx, s.sql(lowSQL), 0, first, second).Scan(&lo2, &hi2); err != nil {
		t.Fatal(err)
	}
	if n != 3 || lo != 1 || hi != 6 || lo2 != lo || hi2 != hi {
		t.Errorf("%d rows from %d to %d, and from %d to %d, want 3 from 1 to 6", n, lo, hi, lo2, hi2)
	}
	// The last of all is not of the window, the last two are not all too new.
	for rows, want := range map[int][2]int64{1: {1, 0}, 2: {1, 6}, nearRows: {1, 6}} {
		if err := s.Pool().QueryRow(ctx, s.sql(nearSQL), 0, first, second, rows).Scan(&lo, &hi); err != nil {
			t.Fatal(err)
		}
		if lo != want[0] || hi != want[1] {
			t.Errorf("from %d to %d among %d from either end, want %v", lo, hi, rows, want)
		}
	}
}
