package pgstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// A writer runs a transaction of somebody else's that sends a message of a key
// and counts the key up, whose lock it then holds until the end.
type writer func(ctx context.Context, m *driver.Message, counter string) error

// byPgx sends with Sender, before the lock, or writes what was sent with Flush, at
// the end.
func byPgx(s *pgstore.Store, box *outbox.Box[pgx.Tx], flush bool) writer {
	return func(ctx context.Context, m *driver.Message, counter string) error {
		return pgx.BeginFunc(ctx, s.Pool(), func(tx pgx.Tx) error {
			out, end := box.Sender(tx), func(context.Context) error { return nil }
			if flush {
				b := box.Buffered(tx)
				out, end = b, b.Flush
			}
			if err := out.Send(ctx, []*driver.Message{m}); err != nil {
				return err
			}
			var n int64
			if err := tx.QueryRow(ctx, countSQL(counter), m.Key).Scan(&n); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO `+counter+`_of VALUES ($1, $2, $3)`, m.ID, m.Key, n); err != nil {
				return err
			}
			return end(ctx)
		})
	}
}

// bySQL is the same over database/sql.
func bySQL(s *pgstore.SQLStore, box *outbox.Box[*sql.Tx], flush bool) writer {
	return func(ctx context.Context, m *driver.Message, counter string) error {
		tx, err := s.DB().BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // after the commit it does nothing
		out, end := box.Sender(tx), func(context.Context) error { return nil }
		if flush {
			b := box.Buffered(tx)
			out, end = b, b.Flush
		}
		if err := out.Send(ctx, []*driver.Message{m}); err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRowContext(ctx, countSQL(counter), m.Key).Scan(&n); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO `+counter+`_of VALUES ($1, $2, $3)`, m.ID, m.Key, n); err != nil {
			return err
		}
		if err := end(ctx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// In a transaction of somebody else's, a message is sent before the lock that
// orders it is taken. The deferred trigger numbers it again, and Flush writes it
// when the lock is held: either way it follows its lock.
func TestMessages_sent_before_the_lock_follow_it_all_the_same(t *testing.T) {
	t.Parallel()
	for by, flush := range map[string]bool{"Sender and the trigger": false, "Flush and no trigger": true} {
		t.Run(by+", pgx", func(t *testing.T) {
			t.Parallel()
			s, counter := opened(t, server(t), t.TempDir(), pgstore.Options{NoReorder: flush})
			box := outbox.New(newStub(1<<60), s, outbox.Options{NoRelay: true})
			followLocks(t, s, counter, byPgx(s, box, flush))
		})
		t.Run(by+", database/sql", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, counter := opened(t, server(t), dir, pgstore.Options{})
			q, err := pgstore.OpenSQL(t.Context(), server(t), pgstore.Options{Schema: schema(dir), NoReorder: flush})
			must(t, err)
			t.Cleanup(func() { must(t, q.Close()) })
			box := outbox.New(newStub(1<<60), q, outbox.Options{NoRelay: true})
			followLocks(t, s, counter, bySQL(q, box, flush))
		})
	}
}

func followLocks(t *testing.T, s *pgstore.Store, counter string, write writer) {
	t.Helper()
	ctx := t.Context()
	_, err := s.Pool().Exec(ctx, `CREATE TABLE `+counter+`_of (id text PRIMARY KEY, key text, n bigint)`)
	must(t, err)
	l := newRecorder()
	relaying(t, s, l, outbox.Options{})
	const writers, each = 12, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				m := &driver.Message{ID: dovetail.NewID(), Channel: "stock", Key: fmt.Sprintf("key-%d", w%3), Source: "catalog", Type: "t.v1"}
				if err := write(ctx, m, counter); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.Signal().Notify()
	published(t, s)
	keys, numbers := map[string]string{}, map[string]int64{}
	rows, err := s.Pool().Query(ctx, `SELECT id, key, n FROM `+counter+`_of`)
	must(t, err)
	var id, key string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&id, &key, &n}, func() error { keys[id], numbers[id] = key, n; return nil })
	must(t, err)
	if len(l.ids) != writers*each || len(numbers) != writers*each {
		t.Fatalf("%d published, %d committed, want %d", len(l.ids), len(numbers), writers*each)
	}
	// The numbers of a key are consecutive in the order of its lock.
	last := map[string]int64{}
	inverted := 0
	for _, id := range l.ids {
		if key := keys[id]; numbers[id] != last[key]+1 {
			inverted++
		} else {
			last[key] = numbers[id]
		}
	}
	if inverted > 0 {
		t.Errorf("%d of %d out of the order of their locks", inverted, len(l.ids))
	}
}
