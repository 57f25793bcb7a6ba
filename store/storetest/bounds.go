package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// whole writes what is as long as it may be.
func (suite[Tx]) whole(e *env[Tx]) {
	long := func(n int, of string) string { return strings.Repeat(of, n/len(of)+1)[:n] }
	m := message(long(driver.MaxID, "id"), "stock", long(driver.MaxKey, "key"))
	m.Source, m.Type = long(driver.MaxSource, "source"), long(driver.MaxType, "type")
	m.Body = []byte(long(3<<20, "body"))
	m.Headers = driver.Headers{{Name: long(200, "name"), Value: long(60_000, "value")}}
	later := m.Clone()
	later.Due = time.Now().Add(-time.Minute)
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: []*driver.Message{m}, Later: []*driver.Message{later}}))
	t := e.lead()
	_, _, err := e.DB.Promote(e.ctx, t, 1)
	e.must(err)
	rows := e.next(t, store.Position{})
	rows = append(rows, e.next(t, rows[len(rows)-1].Position)...)
	e.same(len(rows), 2, "rows")
	check := func(what string, got *driver.Message) {
		e.Helper()
		if got.ID != m.ID || got.Key != m.Key || got.Source != m.Source || got.Type != m.Type || string(got.Body) != string(m.Body) ||
			fmt.Sprint(got.Headers) != fmt.Sprint(m.Headers) {
			e.Errorf("%s: id %d, key %d, source %d, type %d, body %d bytes, want %d, %d, %d, %d, %d", what, len(got.ID), len(got.Key),
				len(got.Source), len(got.Type), len(got.Body), len(m.ID), len(m.Key), len(m.Source), len(m.Type), len(m.Body))
		}
	}
	check("message", rows[0].Message)
	check("delayed message", rows[1].Message)
	e.hold(t, rows...)
	due := e.due(t)
	e.same(len(due), 2, "held messages")
	check("held message", due[0].Message)
	x := store.Entry{Key: store.Key{Group: long(driver.MaxSource, "g"), Handler: long(driver.MaxType, "h"), Source: m.Source, ID: m.ID}, Since: time.Now()}
	near := x
	near.ID = m.ID[:len(m.ID)-1] + "x"
	e.same(e.enter(x), []store.State{""}, "an entry as long as it may be")
	e.same(e.enter(near), []store.State{""}, "one that differs in its last byte")
	e.same(e.enter(x), []store.State{store.Handled}, "the first again")
}

func (suite[Tx]) cursorBack(e *env[Tx]) {
	e.put(messages(4, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[2].Position}))
	for _, p := range []store.Progress{
		{To: rows[0].Position},
		{To: rows[1].Position, Incarnation: "b"},
		{To: rows[1].Position, Hold: []store.Held{held(rows[1])}},
		{Incarnation: "b"},
		{},
	} {
		e.must(e.DB.Advance(e.ctx, t, p))
		c, err := e.DB.Resume(e.ctx, t, "catalog")
		e.must(err)
		e.same(c.Position, rows[2].Position, fmt.Sprintf("cursor after %+v", p.To))
	}
}

// promoteEarly leaves what is due in less than a minute where it is.
func (suite[Tx]) promoteEarly(e *env[Tx]) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	var all []*driver.Message
	for _, d := range []time.Duration{20 * time.Second, 2 * time.Second, -time.Millisecond} {
		m := message(d.String(), "stock", "tea")
		m.Due = now.Add(d)
		all = append(all, m)
	}
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: all}))
	t := e.lead()
	moved, next, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	if time.Since(now) < 2*time.Second {
		e.same(moved, 1, "moved")
		if !next.Equal(all[1].Due) {
			e.Errorf("the next is due at %v, want %v", next, all[1].Due)
		}
	}
	select {
	case <-time.After(time.Until(all[1].Due)):
	case <-e.ctx.Done():
		e.Fatal(e.ctx.Err())
	}
	moved, _, err = e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 1, "moved when it is due")
}

// promoteLocked promotes while somebody is cancelling the first of a key, who
// then changes his mind: the rest of the key must not have passed it.
func (suite[Tx]) promoteLocked(e *env[Tx]) {
	var all []*driver.Message
	for i := range 4 {
		m := message(fmt.Sprint(i), "stock", "tea")
		m.Due = time.Now().Add(time.Duration(i-60) * time.Second)
		all = append(all, m)
	}
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: all}))
	t := e.lead()
	tx := e.begin()
	_, err := e.DB.Cancel(e.ctx, tx, "catalog", []string{"1"})
	e.must(err)
	promoted := make(chan error, 1)
	go func() {
		_, _, err := e.DB.Promote(e.ctx, t, 10)
		promoted <- err
	}()
	select { // a store with one writer waits
	case err := <-promoted:
		e.must(err)
		promoted <- nil
	case <-time.After(100 * time.Millisecond):
	}
	e.must(e.DB.Rollback(e.ctx, tx))
	e.must(<-promoted)
	_, _, err = e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	var got []string
	var after store.Position
	for {
		rows := e.next(t, after)
		if len(rows) == 0 {
			break
		}
		got = append(got, ids(rows)...)
		after = rows[len(rows)-1].Position
	}
	e.same(got, []string{"0", "1", "2", "3"}, "order of the key")
}

func (suite[Tx]) dueTimes(e *env[Tx]) {
	var all []*driver.Message
	for _, y := range []int{1971, 2039, 2107, 9999} {
		m := message(fmt.Sprint(y), "stock", "tea")
		m.Due = time.Date(y, 12, 30, 23, 59, 59, 123_456_000, time.UTC)
		all = append(all, m)
	}
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: all}))
	t := e.lead()
	moved, next, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 1, "moved")
	if !next.Equal(all[1].Due) {
		e.Errorf("the next is due at %v, want %v", next, all[1].Due)
	}
	if rows := e.next(t, store.Position{}); len(rows) != 1 || rows[0].Err != nil || !rows[0].Message.Due.Equal(all[0].Due) {
		e.Errorf("outbox: %+v, want the message of 1971", rows)
	}
	// What could not be read again is not written.
	m := message("far", "stock", "tea")
	m.Due = time.Date(58878, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, w := range []store.Writes{{Later: []*driver.Message{m}}, {Messages: []*driver.Message{m}}} {
		if err := e.DB.Commit(e.ctx, e.begin(), w); err == nil {
			e.Error("a due time that cannot be read again was written")
		}
	}
}

func (suite[Tx]) retireBounds(e *env[Tx]) {
	e.put(messages(6, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows[0], rows[1])
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[3].Position}))
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: e.due(t)}))
	before := time.Now()
	// Nothing up to the beginning, and nothing released before a time long ago.
	n, err := e.DB.Retire(e.ctx, t, store.Retirement{Released: before.Add(-time.Hour)}, 100)
	e.must(err)
	e.same(n, 0, "retired up to the beginning")
	n, err = e.DB.Retire(e.ctx, t, store.Retirement{Released: before.Add(time.Hour)}, 1)
	e.must(err)
	e.same(n, 1, "released rows retired, at most 1")
	// Through says more than the cursor has passed.
	for range 5 {
		_, err := e.DB.Retire(e.ctx, t, store.Retirement{Through: rows[5].Position, Released: before.Add(-time.Hour)}, 1)
		e.must(err)
	}
	c, err := e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(ids(e.next(t, c.Position)), []string{"tea-004", "tea-005"}, "what the cursor has not passed")
	// One released row is left: it was released too late for what was asked.
	n, err = e.DB.Retire(e.ctx, t, store.Retirement{Released: before.Add(time.Hour)}, 100)
	e.must(err)
	e.same(n, 1, "released rows that were left")
}

// leaseAhead is a lease that was taken by a clock that was wrong.
func (suite[Tx]) leaseAhead(e *env[Tx]) {
	a, err := e.DB.Acquire(e.ctx, "l", "a", 24*time.Hour)
	e.must(err)
	if a.Ahead != 0 {
		e.Errorf("nobody's lease would have lasted for %v", a.Ahead)
	}
	_, err = e.DB.Acquire(e.ctx, "l", "b", 3*time.Hour)
	e.is(err, store.ErrLeased, "a lease that lasts eight times as long as is asked for")
	b, err := e.DB.Acquire(e.ctx, "l", "b", time.Minute)
	e.must(err)
	if b.Term <= a.Term || b.Ahead < 23*time.Hour || b.Ahead > 25*time.Hour || !b.Valid(time.Now()) {
		e.Errorf("lease %+v, want a new term, and that the last one was a day ahead", b)
	}
	_, err = e.DB.Acquire(e.ctx, "l", "a", 24*time.Hour)
	e.is(err, store.ErrLeased, "the lease of another")
	again, err := e.DB.Acquire(e.ctx, "l", "b", time.Minute)
	e.must(err)
	if again.Term != b.Term || again.Ahead != 0 {
		e.Errorf("extended lease %+v", again)
	}
}

// takeOver lets messages in that are among the dead letters or were released.
func (suite[Tx]) takeOver(e *env[Tx]) {
	now := time.Now()
	for name, state := range map[string]store.State{"dead": store.Dead, "released": store.Released} {
		x := entry(name)
		x.Since = now.Add(-48 * time.Hour)
		e.mark(state, x)
		// It comes again, later, as the second requeue.
		x.Requeues, x.Since = 2, now.Add(-time.Hour)
		e.same(e.enter(x), []store.State{store.Released}, "an entry that takes over what was "+name)
		found, err := e.DB.Lookup(e.ctx, []store.Key{x.Key})
		e.must(err)
		e.same(found[0].Requeues, 2, "requeues of what was "+name)
		// Since was raised: the row is not older than an hour.
		n, err := e.DB.Purge(e.ctx, now.Add(-2*time.Hour), 10)
		e.must(err)
		e.same(n, 0, "rows that are older than their last handling")
		// An earlier requeue changes neither.
		x.Requeues, x.Since = 1, now.Add(-72*time.Hour)
		e.same(e.enter(x), []store.State{store.Handled}, "an earlier requeue")
		found, err = e.DB.Lookup(e.ctx, []store.Key{x.Key})
		e.must(err)
		e.same(found[0].Requeues, 2, "requeues after an earlier one")
	}
	n, err := e.DB.Purge(e.ctx, now.Add(-time.Minute), 10)
	e.must(err)
	e.same(n, 2, "rows that are old enough")
}
