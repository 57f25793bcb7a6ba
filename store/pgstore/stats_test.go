package pgstore_test

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// A backlog is counted at one cost, however long it is: before a relay has led,
// with one that has, and where there are no statistics yet. To look at every row
// of these would take half a second.
func TestStats_of_a_long_backlog_are_quick(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx := t.Context()
	const rows = 400_000
	_, err := s.Pool().Exec(ctx, `INSERT INTO `+schema(dir)+`.dovetail_outbox (shard, id, channel, key, headers, reorder)
		SELECT 0, i::text, 'stock', '', E'type: t.v1\n\n', false FROM generate_series(1, $1::int) i`, rows)
	must(t, err)
	check := func(when string) {
		t.Helper()
		best := time.Hour
		for range 10 {
			began := time.Now()
			st, err := s.Stats(ctx, 0)
			must(t, err)
			best = min(best, time.Since(began))
			if st.Backlog < rows*9/10 || st.Oldest.IsZero() {
				t.Errorf("%s: %+v, want about %d", when, st, rows)
			}
		}
		if best > 150*time.Millisecond {
			t.Errorf("%s: the backlog was counted in %v", when, best)
		}
	}
	check("before a relay has led")
	term, err := store.Lead(ctx, s, 0, "leader", time.Minute)
	must(t, err)
	c, err := s.Resume(ctx, term, "catalog")
	must(t, err)
	_, err = s.Next(ctx, term, c.Position, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
	must(t, err)
	check("within its first window")
}
