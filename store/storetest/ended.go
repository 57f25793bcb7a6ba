package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// ended has the server end a transaction by itself. Whatever its function does
// afterwards, nothing of it may stay, and the commit must say so.
func (suite[Tx]) ended(e *env[Tx]) {
	e.needs("End", e.End != nil)
	later := message("later", "stock", "tea")
	later.Due = time.Now().Add(-time.Minute)
	all := store.Writes{Token: "ended", Messages: messages(2, "stock", "tea"), Later: []*driver.Message{later}}
	for _, c := range []struct {
		name string
		do   func(tx Tx)
		w    store.Writes
	}{
		{"nothing else", func(Tx) {}, store.Writes{}},
		{"a commit that writes", func(Tx) {}, all},
		{"an effect", func(tx Tx) { _, _ = e.Count(e.ctx, tx, "tea") }, all},
		{"messages that are written at once", func(tx Tx) { _ = e.DB.Write(e.ctx, tx, all) }, store.Writes{}},
		{"an inbox row", func(tx Tx) { _, _ = e.DB.Insert(e.ctx, tx, []store.Entry{entry("ended")}) }, all},
		{"a part of it", func(tx Tx) {
			_ = e.DB.Savepoint(e.ctx, tx, "part")
			_, _ = e.Count(e.ctx, tx, "tea")
			_ = e.DB.Release(e.ctx, tx, "part")
		}, all},
	} {
		tx := e.begin()
		_, err := e.Count(e.ctx, tx, "tea")
		e.must(err)
		e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(1, "stock", "before")}))
		e.End(e.ctx, tx)
		c.do(tx)
		if err := e.DB.Commit(e.ctx, tx, c.w); err == nil || errors.Is(err, store.ErrUnknown) {
			e.Fatalf("commit after the server ended the transaction, and %s: %v, want an error that says that it is rolled back", c.name, err)
		}
		e.must(e.DB.Rollback(e.ctx, tx)) // it has ended
		counts, err := e.Counts(e.ctx)
		e.must(err)
		e.same(counts, map[string]int64{}, "counters after "+c.name)
	}
	tx := e.begin()
	_, err := e.Count(e.ctx, tx, "tea")
	e.must(err)
	e.End(e.ctx, tx)
	e.must(e.DB.Rollback(e.ctx, tx))
	committed, err := e.DB.Resolve(e.ctx, "ended")
	e.must(err)
	e.same(committed, false, "the token")
	e.same(e.state(entry("ended")), "", "inbox row")
	t := e.lead()
	moved, _, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 0, "delayed messages")
	e.same(ids(e.next(t, store.Position{})), []string{}, "outbox")
	e.put(message("1", "stock", "tea")) // the connection is still good
}

// rollbackLate ends parts and transactions whose context has ended.
func (suite[Tx]) rollbackLate(e *env[Tx]) {
	gone, cancel := context.WithCancel(e.ctx)
	cancel()
	tx := e.begin()
	_, err := e.Count(e.ctx, tx, "kept")
	e.must(err)
	for _, end := range []func(ctx context.Context, tx Tx, name string) error{e.DB.RollbackTo, e.DB.Release} {
		part, endPart := context.WithCancel(e.ctx)
		e.must(e.DB.Savepoint(part, tx, "one"))
		endPart()
		_, err = e.Count(e.ctx, tx, "undone")
		e.must(err)
		part, endPart = context.WithCancel(e.ctx)
		e.must(e.DB.RollbackTo(part, tx, "one"))
		e.must(end(part, tx, "one"))
		endPart()
		_, err = e.Count(e.ctx, tx, "kept")
		e.must(err)
	}
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	tx = e.begin()
	_, err = e.Count(e.ctx, tx, "undone")
	e.must(err)
	e.must(e.DB.Rollback(gone, tx))
	// The connection, and the counter's lock, are free at once.
	tx = e.begin()
	_, err = e.Count(e.ctx, tx, "undone")
	e.must(err)
	e.must(e.DB.Rollback(e.ctx, tx))
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{"kept": 3}, "counters")
}

func (suite[Tx]) wakes(e *env[Tx]) {
	woken := e.DB.Signal().Wait()
	m := message("1", "stock", "tea")
	m.Due = time.Now().Add(time.Hour)
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: []*driver.Message{m}}))
	select {
	case <-woken:
	default:
		e.Error("a commit of delayed messages alone did not notify the signal")
	}
}
