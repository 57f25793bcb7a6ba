package pgstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// txTest is a store with a counter and what it says in the end.
type txTest struct {
	*pgstore.Store
	t       *testing.T
	counter string
}

func newTxTest(t *testing.T) *txTest {
	t.Parallel()
	s, counter := opened(t, server(t), t.TempDir(), pgstore.Options{Conns: 2})
	return &txTest{s, t, counter}
}

func (x *txTest) begin() pgx.Tx {
	x.t.Helper()
	tx, err := x.Begin(x.t.Context())
	must(x.t, err)
	return tx
}

func (x *txTest) want(key string, n int64) {
	x.t.Helper()
	all, err := counts(x.t.Context(), x.Pool(), x.counter)
	must(x.t, err)
	if all[key] != n {
		x.t.Errorf("%s was counted %d times, want %d", key, all[key], n)
	}
}

// BEGIN goes with the first statement, whatever that is: what a roll-back undoes
// says that it did.
func TestBegin_goes_with_any_first_statement(t *testing.T) {
	x := newTxTest(t)
	count := countSQL(x.counter)
	for name, do := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"Exec": func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, count, "tea")
			if err == nil && tag.RowsAffected() != 1 {
				err = errors.New(tag.String())
			}
			return err
		},
		"Exec without arguments, two statements": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1; INSERT INTO `+x.counter+` VALUES ('tea', 1)`)
			return err
		},
		"Exec with an option": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, count, pgx.QueryExecModeExec, "tea")
			return err
		},
		"QueryRow": func(ctx context.Context, tx pgx.Tx) error {
			var n int64
			return tx.QueryRow(ctx, count, "tea").Scan(&n)
		},
		"Query": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, count, "tea")
			if err != nil {
				return err
			}
			n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
			if err == nil && n != 1 {
				err = errors.New("not the first")
			}
			return err
		},
		"Query, closed early": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `WITH c AS (`+count+`) SELECT n FROM c, generate_series(1, 1000)`, "tea")
			if err != nil {
				return err
			}
			rows.Next()
			rows.Close()
			return rows.Err()
		},
		"SendBatch": func(ctx context.Context, tx pgx.Tx) error {
			b := &pgx.Batch{}
			b.Queue(count, "tea")
			return tx.SendBatch(ctx, b).Close()
		},
		"CopyFrom": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{x.counter[:len(x.counter)-len(".counter")], "counter"}, []string{"key", "n"}, pgx.CopyFromRows([][]any{{"tea", int64(1)}}))
			return err
		},
		"a transaction within": func(ctx context.Context, tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, count, "tea")
				return err
			})
		},
		"its connection": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Conn().Exec(ctx, count, "tea")
			return err
		},
		"Prepare": func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Prepare(ctx, "first", count); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "first", "tea")
			return errors.Join(err, tx.Conn().Deallocate(ctx, "first"))
		},
		"LargeObjects": func(ctx context.Context, tx pgx.Tx) error {
			large := tx.LargeObjects()
			if _, err := large.Create(ctx, 0); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, count, "tea")
			return err
		},
	} {
		for range 2 { // the second time its statements are prepared
			tx := x.begin()
			if err := do(t.Context(), tx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			must(t, x.Rollback(t.Context(), tx))
			x.want("tea", 0)
		}
		tx := x.begin()
		if err := do(t.Context(), tx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, x.Commit(t.Context(), tx, store.Writes{}))
		x.want("tea", 1)
		_, err := x.Pool().Exec(t.Context(), `DELETE FROM `+x.counter)
		must(t, err)
	}
}

// As in PostgreSQL, a statement that fails spoils the transaction, also if BEGIN
// went with it, and if it could not even be prepared.
func TestCommit_after_a_failed_first_statement_is_rolled_back(t *testing.T) {
	x := newTxTest(t)
	ctx := t.Context()
	for name, text := range map[string]string{
		"one that cannot be prepared": `INSERT INTO nowhere VALUES ($1)`,
		"one that fails when it runs": `SELECT 1 / (length($1) - 3)`,
	} {
		for _, w := range []store.Writes{{}, {Token: "spoilt " + name}} {
			tx := x.begin()
			if _, err := tx.Exec(ctx, text, "tea"); err == nil {
				t.Fatalf("%s does not fail", name)
			}
			if _, err := tx.Exec(ctx, countSQL(x.counter), "tea"); err == nil {
				t.Errorf("after %s another one runs", name)
			}
			if err := x.Commit(ctx, tx, w); err == nil || errors.Is(err, store.ErrUnknown) {
				t.Errorf("commit after %s: %v, want that it is rolled back", name, err)
			}
		}
	}
	x.want("tea", 0)
	tx := x.begin() // its connection is as good as before
	_, err := tx.Exec(ctx, countSQL(x.counter), "tea")
	must(t, err)
	must(t, x.Commit(ctx, tx, store.Writes{}))
	x.want("tea", 1)
}

// What was never sent spoils nothing.
func TestTransaction_goes_on_after_a_first_statement_that_was_not_sent(t *testing.T) {
	x := newTxTest(t)
	ended, end := context.WithCancel(t.Context())
	end()
	tx := x.begin()
	if _, err := tx.Exec(ended, countSQL(x.counter), "tea"); err == nil {
		t.Error("a statement is sent although its context has ended")
	}
	_, err := tx.Exec(t.Context(), countSQL(x.counter), "coffee")
	must(t, err)
	must(t, x.Commit(t.Context(), tx, store.Writes{}))
	x.want("tea", 0)
	x.want("coffee", 1)
}

// The savepoint that goes with Insert is the handler's part and not what Insert
// itself does after it.
func TestRollbackTo_after_Enter_undoes_the_handler_alone(t *testing.T) {
	x := newTxTest(t)
	ctx := t.Context()
	entry := store.Entry{Key: store.Key{Group: "purchasing", Handler: "reorder", Source: "catalog", ID: "1"}}
	state := func() store.State {
		t.Helper()
		found, err := x.Lookup(ctx, []store.Key{entry.Key})
		must(t, err)
		return found[0].State
	}
	part := store.PartName(1)
	attempt := func(count bool) {
		t.Helper()
		tx := x.begin()
		_, err := x.Insert(ctx, tx, []store.Entry{entry})
		must(t, err)
		must(t, x.Savepoint(ctx, tx, part))
		if count {
			_, err = tx.Exec(ctx, countSQL(x.counter), "tea")
			must(t, err)
			_, err = tx.Exec(ctx, `INSERT INTO nowhere VALUES ($1)`, "tea")
			if err == nil {
				t.Fatal("it must fail")
			}
		}
		must(t, x.RollbackTo(ctx, tx, part))
		must(t, x.Release(ctx, tx, part))
		// Another part of the same name.
		must(t, x.Savepoint(ctx, tx, part))
		_, err = tx.Exec(ctx, countSQL(x.counter), "coffee")
		must(t, err)
		must(t, x.Release(ctx, tx, part))
		must(t, x.Commit(ctx, tx, store.Writes{}))
	}
	for n, count := range []bool{false, true} {
		// A row that was dead and is taken over, by a statement behind that savepoint.
		tx := x.begin()
		_, err := x.Mark(ctx, tx, []store.Entry{entry}, store.Dead)
		must(t, err)
		must(t, x.Commit(ctx, tx, store.Writes{}))
		if s := state(); n == 0 && s != store.Dead {
			t.Fatalf("the row is %s, want dead", s)
		}
		entry.Requeues++
		attempt(count)
		if s := state(); s != store.Handled {
			t.Errorf("a row taken over is %s after the part was rolled back, want handled", s)
		}
		entry.ID = "2"
		attempt(count)
		if s := state(); s != store.Handled {
			t.Errorf("a new row is %q after the part was rolled back, want handled", s)
		}
		entry.ID = "3"
	}
	x.want("tea", 0)
	x.want("coffee", 4)
}

// A failure that the function passed over is told at the end of its part, and
// not to the next one.
func TestRelease_tells_of_a_failure_that_nobody_cared_for(t *testing.T) {
	x := newTxTest(t)
	ctx := t.Context()
	tx := x.begin()
	_, err := tx.Exec(ctx, countSQL(x.counter), "tea")
	must(t, err)
	must(t, x.Savepoint(ctx, tx, "part"))
	if _, err := tx.Exec(ctx, `SELECT 1 / 0`); err == nil {
		t.Fatal("it must fail")
	}
	if err := x.Release(ctx, tx, "part"); err == nil {
		t.Error("a part is released although a statement in it failed")
	}
	must(t, x.RollbackTo(ctx, tx, "part"))
	must(t, x.Commit(ctx, tx, store.Writes{}))
	x.want("tea", 1)
}

// A transaction that has ended says so, also one in which nothing was done.
func TestCommit_of_nothing_ends_the_transaction(t *testing.T) {
	x := newTxTest(t)
	ctx := t.Context()
	tx := x.begin()
	must(t, x.Savepoint(ctx, tx, "part"))
	must(t, x.Release(ctx, tx, "part"))
	must(t, x.Commit(ctx, tx, store.Writes{}))
	_, xerr := tx.Exec(ctx, `SELECT 1`)
	_, berr := tx.Begin(ctx)
	for name, err := range map[string]error{
		"Commit":   x.Commit(ctx, tx, store.Writes{}),
		"Exec":     xerr,
		"QueryRow": tx.QueryRow(ctx, `SELECT $1::int`, 1).Scan(new(int)),
		"Begin":    berr,
		"Rollback": tx.Rollback(ctx),
	} {
		if !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("%s after the end: %v, want ErrTxClosed", name, err)
		}
	}
}
