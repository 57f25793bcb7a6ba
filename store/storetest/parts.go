package storetest

import (
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// savepoints undoes parts within parts.
func (suite[Tx]) savepoints(e *env[Tx]) {
	tx := e.begin()
	part := func(id string) {
		e.Helper()
		_, err := e.Count(e.ctx, tx, id)
		e.must(err)
		e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: []*driver.Message{message(id, "stock", id)}}))
	}
	one, two := store.PartName(1), store.PartName(2)
	e.must(e.DB.Savepoint(e.ctx, tx, one))
	part("outer")
	for range 2 { // two parts within, one after the other, under one name
		e.must(e.DB.Savepoint(e.ctx, tx, two))
		part("inner")
		e.must(e.DB.RollbackTo(e.ctx, tx, two))
		e.must(e.DB.Release(e.ctx, tx, two))
	}
	e.must(e.DB.Savepoint(e.ctx, tx, two))
	part("second")
	e.must(e.DB.Release(e.ctx, tx, two))
	e.must(e.DB.Release(e.ctx, tx, one))
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{"outer": 1, "second": 1}, "counters")
	e.same(ids(e.next(e.lead(), store.Position{})), []string{"outer", "second"}, "outbox")
}

// cut loses the connection of a transaction before its COMMIT arrives.
func (suite[Tx]) cut(e *env[Tx]) {
	e.needs("Cut", e.Cut != nil)
	for _, name := range []string{"before the commit", "in the middle"} {
		tx := e.begin()
		_, err := e.Count(e.ctx, tx, "tea")
		e.must(err)
		e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(1, "stock", "tea")}))
		e.must(e.Cut(e.ctx, tx))
		if name == "in the middle" {
			if _, err := e.Count(e.ctx, tx, "tea"); err == nil {
				e.Errorf("%s: a statement without a connection succeeded", name)
			}
			_, err = e.DB.Insert(e.ctx, tx, []store.Entry{entry("cut")})
			if err == nil {
				e.Errorf("%s: the inbox was entered without a connection", name)
			}
		}
		late := message("late", "stock", "tea")
		late.Due = time.Now().Add(-time.Hour)
		err = e.DB.Commit(e.ctx, tx, store.Writes{Token: name, Messages: messages(2, "stock", "tea"), Later: []*driver.Message{late}})
		if err == nil {
			e.Fatalf("%s: a commit that never arrived succeeded", name)
		}
		committed, rerr := e.DB.Resolve(e.ctx, name)
		e.must(rerr)
		if committed {
			e.Errorf("%s: a commit that never arrived (%v) is said to have happened", name, err)
		}
		e.must(e.DB.Rollback(e.ctx, tx))
		counts, cerr := e.Counts(e.ctx)
		e.must(cerr)
		e.same(counts, map[string]int64{}, "counters when the connection was cut "+name)
	}
	t := e.lead()
	moved, _, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 0, "delayed messages")
	e.same(ids(e.next(t, store.Position{})), []string{}, "outbox")
	e.same(e.state(entry("cut")), "", "inbox row")
	e.put(message("1", "stock", "tea")) // there is another connection
	if _, err := e.DB.Resolve(e.ctx, "never seen"); errors.Is(err, store.ErrUnknown) {
		e.Error("the outcome of a transaction that never was is unknown")
	}
}
