// Package tables makes the tables of the services, in SQL that SQLite and
// PostgreSQL both read: parameters are $1, $2, …, and whole numbers BIGINT.
package tables

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// tries is how often Make tries.
const tries = 5

// Make runs statements of the form CREATE … IF NOT EXISTS. Where instances of a
// service start at once, PostgreSQL lets both find that a table does not exist,
// and one of them fails: it tries again, and finds it.
func Make(ctx context.Context, db *sql.DB, statements string) error {
	for n := 1; ; n++ {
		_, err := db.ExecContext(ctx, statements)
		if err == nil {
			return nil
		}
		if n == tries {
			return fmt.Errorf("make tables: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("make tables: %w", err)
		case <-time.After(time.Duration(n) * 50 * time.Millisecond):
		}
	}
}
