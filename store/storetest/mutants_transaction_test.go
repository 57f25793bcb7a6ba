package storetest_test

import (
	"context"
	"errors"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// A diary is what a mutant remembers of transactions.
type diary[V any] struct {
	mu sync.Mutex
	of map[tx]V
}

func (d *diary[V]) get(t tx) V {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[t]
}

func (d *diary[V]) set(t tx, v V) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[tx]V{}
	}
	d.of[t] = v
}

// alone runs a function in a transaction of its own.
func (l *lab) alone(ctx context.Context, do func(tx) error) error {
	t, err := l.inner.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(t); err != nil {
		return errors.Join(err, l.inner.Rollback(ctx, t))
	}
	return l.inner.Commit(ctx, t, store.Writes{})
}

// autocommits is a store that does what comes after the end of a transaction by
// itself.
func autocommits(ended *diary[bool]) func(*lab) {
	return func(l *lab) {
		end := l.end
		l.end = func(ctx context.Context, t tx) { ended.set(t, true); end(ctx, t) }
		l.count = func(ctx context.Context, t tx, key string) (n int64, err error) {
			if !ended.get(t) {
				return count(ctx, t, key)
			}
			err = l.alone(ctx, func(t tx) error { n, err = count(ctx, t, key); return err })
			return n, err
		}
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			if !ended.get(t) {
				return l.inner.Commit(ctx, t, w)
			}
			return l.alone(ctx, func(t tx) error { return l.inner.Write(ctx, t, w) })
		}
	}
}

var transactionMutants = map[string]mutant{
	"commits without the messages": {by: "Commit_takes_the_messages_with_it", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Messages = nil
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"commits without the effect": {by: "Commit_takes_the_messages_with_it", plant: func(l *lab) {
		l.count = func(ctx context.Context, t tx, key string) (int64, error) {
			n, err := count(ctx, t, key)
			t.Delete(key)
			return n, err
		}
	}},
	"commits twice": {by: "Commit_takes_the_messages_with_it", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			_ = l.inner.Commit(ctx, t, w)
			return nil
		}
	}},
	"fails to roll back what has ended": {by: "Commit_takes_the_messages_with_it", plant: func(l *lab) {
		var ended diary[bool]
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			ended.set(t, true)
			return l.inner.Commit(ctx, t, w)
		}
		l.rollback = func(ctx context.Context, t tx) error {
			if ended.get(t) {
				return errors.New("transaction has ended")
			}
			return l.inner.Rollback(ctx, t)
		}
	}},
	"sends what was written although it rolls back": {by: "Rollback_leaves_nothing", plant: func(l *lab) {
		var wrote diary[store.Writes]
		l.write = func(ctx context.Context, t tx, w store.Writes) error {
			wrote.set(t, w)
			return l.inner.Write(ctx, t, w)
		}
		l.rollback = func(ctx context.Context, t tx) error {
			err := l.inner.Rollback(ctx, t)
			return errors.Join(err, l.alone(context.WithoutCancel(ctx), func(now tx) error { return l.inner.Write(ctx, now, wrote.get(t)) }))
		}
	}},
	"commits after its context has ended": {by: "Rollback_leaves_nothing", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			return l.inner.Commit(context.WithoutCancel(ctx), t, w)
		}
	}},
	"rolls nothing back to a savepoint": {by: "Savepoint_undoes_a_part", plant: func(l *lab) {
		l.rollbackTo = func(context.Context, tx, string) error { return nil }
	}},
	"forgets a savepoint to which it rolled back": {by: "Savepoint_undoes_a_part", plant: func(l *lab) {
		l.rollbackTo = func(ctx context.Context, t tx, name string) error {
			return errors.Join(l.inner.RollbackTo(ctx, t, name), l.inner.Release(ctx, t, name))
		}
	}},
	"rolls the outer part back with the inner": {by: "Savepoint_within_another_is_undone_alone", plant: func(l *lab) {
		l.rollbackTo = func(ctx context.Context, t tx, name string) error {
			outer := store.PartName(1)
			if err := l.inner.RollbackTo(ctx, t, outer); err != nil || name == outer {
				return l.inner.RollbackTo(ctx, t, name) // there is one part
			}
			return l.inner.Savepoint(ctx, t, name)
		}
	}},
	"keeps the messages of a part that is undone": {by: "Savepoint_undoes_a_part", plant: func(l *lab) {
		var wrote diary[[]*driver.Message]
		l.write = func(ctx context.Context, t tx, w store.Writes) error {
			wrote.set(t, append(wrote.get(t), w.Messages...))
			return l.inner.Write(ctx, t, w)
		}
		l.rollbackTo = func(ctx context.Context, t tx, name string) error {
			return errors.Join(l.inner.RollbackTo(ctx, t, name), l.inner.Write(ctx, t, store.Writes{Messages: wrote.get(t)}))
		}
	}},
	"ends a savepoint with its context": {by: "Rollback_and_savepoints_work_after_their_context_has_ended", plant: func(l *lab) {
		var parts diary[context.Context]
		l.savepoint = func(ctx context.Context, t tx, name string) error {
			parts.set(t, ctx)
			return l.inner.Savepoint(ctx, t, name)
		}
		l.rollbackTo = func(ctx context.Context, t tx, name string) error {
			if part := parts.get(t); part != nil && part.Err() != nil {
				return part.Err()
			}
			return l.inner.RollbackTo(ctx, t, name)
		}
	}},
	"rolls back only while its context lasts": {by: "Rollback_and_savepoints_work_after_their_context_has_ended", plant: func(l *lab) {
		l.rollback = func(ctx context.Context, t tx) error {
			if ctx.Err() != nil {
				return nil
			}
			return l.inner.Rollback(ctx, t)
		}
	}},
	"commits what a function does after the server ended its transaction": {by: "Transaction_that_the_server_ended_leaves_nothing",
		plant: autocommits(&diary[bool]{})},
	"answers well when the server ended a transaction": {by: "Transaction_that_the_server_ended_leaves_nothing", plant: func(l *lab) {
		var ended diary[bool]
		end := l.end
		l.end = func(ctx context.Context, t tx) { ended.set(t, true); end(ctx, t) }
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			if ended.get(t) {
				return nil
			}
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"says unknown when the server ended a transaction": {by: "Transaction_that_the_server_ended_leaves_nothing", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			if err := l.inner.Commit(ctx, t, w); err != nil {
				return errors.Join(err, store.ErrUnknown)
			}
			return nil
		}
	}},
	"keeps a part that the server ended": {by: "Transaction_that_the_server_ended_leaves_nothing", plant: func(l *lab) {
		l.end = func(ctx context.Context, t tx) {
			_ = l.inner.Commit(ctx, t, store.Writes{}) // what was before it
		}
	}},
	"takes a COMMIT that was lost for a good one": {by: "Transaction_whose_connection_is_cut_leaves_nothing", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			if l.isCut(t) {
				return nil
			}
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"takes a token for a commit that was lost": {by: "Transaction_whose_connection_is_cut_leaves_nothing", plant: func(l *lab) {
		var lost bool
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			lost = l.isCut(t)
			return l.inner.Commit(ctx, t, w)
		}
		l.resolve = func(ctx context.Context, token string) (bool, error) {
			if lost {
				return true, nil
			}
			return l.inner.Resolve(ctx, token)
		}
	}},
	"runs a lost transaction's writes again by itself": {by: "Transaction_whose_connection_is_cut_leaves_nothing", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			if l.isCut(t) {
				_ = l.alone(ctx, func(t tx) error { return l.inner.Write(ctx, t, w) })
				return errCut
			}
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"wakes nobody": {by: "Commit_takes_the_messages_with_it", plant: func(l *lab) {
		var silent store.Signal
		l.signal = func() *store.Signal { return &silent }
	}},
	"wakes nobody for delayed messages alone": {by: "Commit_of_delayed_messages_alone_wakes", plant: func(l *lab) {
		var own store.Signal
		l.signal = func() *store.Signal { return &own }
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			err := l.inner.Commit(ctx, t, w)
			if len(w.Messages) > 0 {
				own.Notify()
			}
			return err
		}
	}},
	"loses everything when it migrates again": {by: "Migrate_runs_again_without_harm", plant: func(l *lab) {
		l.migrate = func(context.Context) error {
			empty := memstore.New()
			l.acquire, l.resume, l.next = empty.Acquire, empty.Resume, empty.Next
			return nil
		}
	}},
	"fails to migrate again": {by: "Migrate_runs_again_without_harm", plant: func(l *lab) {
		l.migrate = func(context.Context) error { return errors.New("table exists") }
	}},
}
