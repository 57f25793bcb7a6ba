package sqlitestore_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

func TestStore(t *testing.T) {
	t.Log("server: sqlite " + sqlite3.SQLITE_VERSION)
	storetest.Run(t, storetest.Harness[*sql.Tx]{
		Durable: true, Open: open, Steps: []store.Step{store.Written, store.Moving, store.Promoting},
		KnownGaps: map[string]string{"Cut": "a transaction has no connection to a server", "Sharded": "there is one shard"},
	})
}

func open(t testing.TB, dir string) storetest.Database[*sql.Tx] {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), filepath.Join(dir, "test 1%.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB().ExecContext(t.Context(), `CREATE TABLE IF NOT EXISTS counter (key TEXT PRIMARY KEY, n INTEGER NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return storetest.Database[*sql.Tx]{
		DB:     s,
		Count:  count,
		Counts: func(ctx context.Context) (map[string]int64, error) { return counts(ctx, s.DB()) },
		Spoil: func(ctx context.Context, id string) error {
			_, err := s.DB().ExecContext(ctx, `UPDATE dovetail_outbox SET headers = 'spoilt' || char(10) || headers WHERE id = ?`, id)
			return err
		},
		End:   interrupt,
		Close: s.Close,
	}
}

// interrupt has SQLite roll a transaction back by itself: that is what becomes of
// it when a statement that writes is interrupted.
func interrupt(ctx context.Context, tx *sql.Tx) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, _ = tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)
		INSERT INTO counter SELECT 'endless ' || i, i FROM n`)
}

func count(ctx context.Context, tx *sql.Tx, key string) (n int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO counter VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING n`, key).Scan(&n)
	return n, err
}

func counts(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	rows, err := db.QueryContext(ctx, `SELECT key, n FROM counter`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]int64{}
	for rows.Next() {
		var key string
		var n int64
		if err := rows.Scan(&key, &n); err != nil {
			return nil, err
		}
		all[key] = n
	}
	return all, rows.Err()
}
