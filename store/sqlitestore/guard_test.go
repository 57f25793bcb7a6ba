package sqlitestore_test

import (
	"database/sql"
	"testing"

	"github.com/dovetail-go/dovetail/store"
)

// What SQLite or a function ends by itself fails as a whole, whatever the
// function does then.
func TestTransaction_that_ended_by_itself_keeps_nothing(t *testing.T) {
	for name, end := range map[string]func(tx *sql.Tx){
		"interrupted":         func(tx *sql.Tx) { interrupt(t.Context(), tx) },
		"rolled back by hand": func(tx *sql.Tx) { _, _ = tx.ExecContext(t.Context(), `ROLLBACK`) },
		"rolled back and begun again": func(tx *sql.Tx) {
			_, _ = tx.ExecContext(t.Context(), `ROLLBACK`)
			_, _ = tx.ExecContext(t.Context(), `BEGIN`)
		},
		"committed by hand": func(tx *sql.Tx) { _, _ = tx.ExecContext(t.Context(), `COMMIT`) },
		"rolled back on a clash": func(tx *sql.Tx) {
			_, _ = tx.ExecContext(t.Context(), `INSERT OR ROLLBACK INTO counter VALUES ('tea', 2)`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, t.TempDir())
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			ctx := t.Context()
			tx, err := db.DB.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := count(ctx, tx, "tea"); err != nil {
				t.Fatal(err)
			}
			end(tx)
			for range 2 {
				if _, err := count(ctx, tx, "tea"); err == nil {
					t.Error("a statement after the end succeeded")
				}
			}
			if err := db.DB.Commit(ctx, tx, store.Writes{Token: "token"}); err == nil {
				t.Error("the commit succeeded")
			}
			if counts, err := db.Counts(ctx); err != nil || len(counts) > 0 {
				t.Errorf("counters %v, %v, want none", counts, err)
			}
		})
	}
}
