package storetest

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// beside begins a transaction while another is open. together is false where
// the store lets one write at a time; the transaction then comes when the other
// has ended.
func (e *env[Tx]) beside() (tx func() Tx, together bool) {
	e.Helper()
	type begun struct {
		tx  Tx
		err error
	}
	came := make(chan begun, 1)
	go func() {
		tx, err := e.DB.Begin(e.ctx)
		came <- begun{tx, err}
	}()
	wait := func() Tx {
		e.Helper()
		b := <-came
		came <- b // for who asks again
		e.must(b.err)
		e.begun = append(e.begun, b.tx)
		return b.tx
	}
	select {
	case b := <-came:
		came <- b
		return wait, true
	case <-time.After(200 * time.Millisecond):
		return wait, false
	}
}

// A reading is a relay that reads on and moves its cursor along.
type reading[Tx any] struct {
	e     *env[Tx]
	t     store.Term
	after store.Position
	got   []string
}

// read reads until nothing comes.
func (r *reading[Tx]) read() {
	r.e.Helper()
	for {
		page, err := r.e.DB.Next(r.e.ctx, r.t, r.after, store.Position{}, everything)
		r.e.must(err)
		r.got = append(r.got, ids(page.Rows)...)
		if n := len(page.Rows); n > 0 {
			r.after = page.Rows[n-1].Position
		} else {
			return
		}
		r.e.must(r.e.DB.Advance(r.e.ctx, r.t, store.Progress{To: r.after}))
	}
}

// lateCommit has transactions commit in another order than they wrote, while a
// relay reads between them: the trap of a reader that goes on after the largest
// number that it has seen, of messages or, the second time, of messages of
// transactions that are older than any that is open.
func (suite[Tx]) lateCommit(e *env[Tx]) {
	r := &reading[Tx]{e: e, t: e.lead()}
	for _, older := range []bool{false, true} {
		first := e.begin()
		write := func(tx Tx, id string) {
			e.Helper()
			e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: []*driver.Message{message(id, "stock", id)}}))
		}
		if older {
			_, err := e.Count(e.ctx, first, "tea") // the transaction has its number now
			e.must(err)
		} else {
			write(first, "early")
		}
		wait, together := e.beside()
		if !together {
			e.must(e.DB.Rollback(e.ctx, first))
			write(wait(), "early")
			e.must(e.DB.Commit(e.ctx, wait(), store.Writes{}))
			r.read()
			e.same(r.got, []string{"early"}, "what was read, where one writes at a time")
			return
		}
		early, late := first, wait()
		if older {
			early, late = late, early
			write(early, "early")
		}
		write(late, "late")
		e.must(e.DB.Commit(e.ctx, late, store.Writes{}))
		r.read()
		e.put(message("more", "stock", "more"))
		r.read()
		e.must(e.DB.Commit(e.ctx, early, store.Writes{}))
		r.read()
		e.put(message("last", "stock", "last")) // for a store that looks once more when something is written
		r.read()
		seen := map[string]int{}
		for _, id := range r.got {
			seen[id]++
		}
		e.same(seen, map[string]int{"early": 1, "late": 1, "more": 1, "last": 1}, "how often each was read")
		r.got = nil
	}
}

// lockOrder has a transaction that began first get a lock second: the trap of a
// reader that orders by the numbers of transactions, however careful it is about
// those that are still open.
func (suite[Tx]) lockOrder(e *env[Tx]) {
	r := &reading[Tx]{e: e, t: e.lead()}
	for _, between := range []bool{false, true} {
		r.read() // what was there before
		r.got = nil
		key := "tea"
		if between {
			key = "coffee"
		}
		first := e.begin()
		_, err := e.Count(e.ctx, first, key+", another") // it has its number now
		e.must(err)
		count := func(tx Tx, n int64) {
			e.Helper()
			got, err := e.Count(e.ctx, tx, key)
			if e.again(err) {
				e.must(e.DB.Rollback(e.ctx, tx))
				tx = e.begin()
				got, err = e.Count(e.ctx, tx, key)
			}
			e.must(err)
			e.same(got, n, "counter")
			e.must(e.DB.Commit(e.ctx, tx, store.Writes{Messages: []*driver.Message{message([]string{"", "one", "two"}[n], "stock", key)}}))
		}
		wait, together := e.beside()
		if !together {
			count(first, 1)
			count(wait(), 2)
		} else {
			count(wait(), 1)
			if between {
				r.read()
			}
			count(first, 2)
		}
		r.read()
		e.same(r.got, []string{"one", "two"}, "messages of a key, in the order of its lock")
	}
}

// gap leaves numbers that nobody will ever commit.
func (suite[Tx]) gap(e *env[Tx]) {
	tx := e.begin()
	e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(3, "stock", "undone")}))
	e.must(e.DB.Rollback(e.ctx, tx))
	e.put(message("1", "stock", "a"))
	r := &reading[Tx]{e: e, t: e.lead()}
	r.read()
	e.same(r.got, []string{"1"}, "what was read after a roll-back")
}
