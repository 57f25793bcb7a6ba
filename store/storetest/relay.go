package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func (suite[Tx]) lease(e *env[Tx]) {
	a, err := e.DB.Acquire(e.ctx, "l", "a", time.Minute)
	e.must(err)
	if !a.Valid(time.Now()) || a.Valid(time.Now().Add(time.Minute)) {
		e.Errorf("a lease of a minute lasts until %v", a.Until)
	}
	_, err = e.DB.Acquire(e.ctx, "l", "b", time.Minute)
	e.is(err, store.ErrLeased, "the lease of another")
	_, err = e.DB.Acquire(e.ctx, "other", "b", time.Minute)
	e.must(err)
	again, err := e.DB.Acquire(e.ctx, "l", "a", time.Minute)
	e.must(err)
	e.same(again.Term, a.Term, "term of an extended lease")
	e.must(e.DB.Resign(e.ctx, a))
	b, err := e.DB.Acquire(e.ctx, "l", "b", time.Minute)
	e.must(err)
	if b.Term <= a.Term {
		e.Errorf("term %d follows %d", b.Term, a.Term)
	}
	e.must(e.DB.Resign(e.ctx, a)) // too late, and harmless
	_, err = e.DB.Acquire(e.ctx, "l", "a", time.Minute)
	e.is(err, store.ErrLeased, "the lease of another")
}

func (suite[Tx]) leaseTerm(e *env[Tx]) {
	a, err := e.DB.Acquire(e.ctx, "l", "a", time.Millisecond)
	e.must(err)
	e.passed(time.Millisecond)
	again, err := e.DB.Acquire(e.ctx, "l", "a", time.Millisecond)
	e.must(err)
	e.passed(time.Millisecond)
	b, err := e.DB.Acquire(e.ctx, "l", "b", time.Minute)
	e.must(err)
	if !(a.Term < again.Term && again.Term < b.Term) {
		e.Errorf("terms %d, %d, %d: want them to grow", a.Term, again.Term, b.Term)
	}
}

// fenced is a leader that is stopped past its lease and goes on, before and
// after another has taken over.
func (suite[Tx]) fenced(e *env[Tx]) {
	past := time.Now().Add(-time.Minute)
	late := message("late", "stock", "tea")
	late.Due = past
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: messages(3, "stock", "tea"), Later: []*driver.Message{late}}))
	first := e.lead()
	rows := e.next(first, store.Position{})
	e.must(e.DB.Advance(e.ctx, first, store.Progress{To: rows[0].Position}))
	e.must(e.DB.Resign(e.ctx, first.Lease))

	slow := e.leadFor(time.Millisecond)
	e.passed(time.Millisecond)
	e.put(message("new", "stock", "tea"))
	try := func(when string) {
		e.Helper()
		_, err := e.DB.Resume(e.ctx, slow, "catalog")
		e.is(err, store.ErrFenced, "resume "+when)
		e.is(e.DB.Advance(e.ctx, slow, store.Progress{To: rows[2].Position}), store.ErrFenced, "advance "+when)
		page, err := e.DB.Next(e.ctx, slow, rows[2].Position, rows[2].Position, everything)
		if page.Advanced || err != nil && !isFenced(err) {
			e.Fatalf("next %s: advanced %v, %v", when, page.Advanced, err)
		}
		e.is(e.DB.Advance(e.ctx, slow, store.Progress{To: rows[2].Position, Hold: []store.Held{held(rows[1])}}), store.ErrFenced, "advance and hold "+when)
		_, _, err = e.DB.Promote(e.ctx, slow, 10)
		e.is(err, store.ErrFenced, "promote "+when)
		_, err = e.DB.Rewind(e.ctx, slow, "new")
		e.is(err, store.ErrFenced, "rewind "+when)
		n, err := e.DB.Retire(e.ctx, slow, store.Retirement{Through: rows[2].Position, Released: time.Now()}, 10)
		if n != 0 || err != nil && !isFenced(err) {
			e.Fatalf("retire %s: %d rows, %v", when, n, err)
		}
	}
	try("after the lease has passed")
	second, err := store.Lead(e.ctx, e.DB, 0, "successor", time.Minute)
	e.must(err)
	try("after another took over")
	c, err := e.DB.Resume(e.ctx, second, "catalog")
	e.must(err)
	e.same(c, store.Cursor{Position: rows[0].Position}, "cursor of the successor")
	rows = e.next(second, c.Position)
	rows = append(rows, e.next(second, rows[len(rows)-1].Position)...)
	e.same(ids(rows), []string{"tea-001", "tea-002", "new"}, "outbox of the successor")
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	e.same(st.Later, 1, "delayed messages")
}

func (suite[Tx]) along(e *env[Tx]) {
	e.put(messages(3, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	at := store.Position{}
	next := func(id string, after, done store.Position) (last store.Position) {
		e.Helper()
		e.put(message(id, "stock", "tea"))
		page, err := e.DB.Next(e.ctx, t, after, done, everything)
		e.must(err)
		e.same(ids(page.Rows), []string{id}, "what follows")
		if page.Advanced && done == rows[1].Position {
			at = done
		}
		c, err := e.DB.Resume(e.ctx, t, "catalog")
		e.must(err)
		e.same(c.Position, at, "cursor")
		return page.Rows[0].Position
	}
	last := next("3", rows[2].Position, store.Position{})
	last = next("4", last, rows[1].Position)
	next("5", last, rows[0].Position) // it does not go back
}

func (suite[Tx]) owner(e *env[Tx]) {
	t := e.lead()
	_, err := e.DB.Resume(e.ctx, t, "payment")
	e.is(err, store.ErrOwner, "the outbox of another service")
	_, err = e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
}

func (suite[Tx]) cursor(e *env[Tx]) {
	e.put(messages(5, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[1].Position, Incarnation: "broker-1"}))
	c, err := e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(c, store.Cursor{Position: rows[1].Position, Incarnation: "broker-1"}, "cursor")
	e.same(ids(e.next(t, c.Position)), []string{"tea-002", "tea-003", "tea-004"}, "what follows the cursor")
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Incarnation: "broker-2"}))
	c, err = e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(c, store.Cursor{Position: rows[1].Position, Incarnation: "broker-2"}, "cursor after a step that only remembers the broker")
}

// held is a row to set aside, to be tried again at once.
func held(r store.Row) store.Held {
	return store.Held{Row: r, Since: time.Now(), Lane: store.Lane{Channel: r.Message.Channel, Name: store.LaneOf(r.Message), Attempts: 3, Error: "too large"}}
}

func (suite[Tx]) held(e *env[Tx]) {
	ms := append(messages(3, "stock", "a"), messages(3, "stock", "b")...)
	ms = append(ms, message("loose", "stock", ""))
	e.put(ms...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	last := rows[6].Position
	// The last row of a lane is held before the first, which was put off.
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: last, Hold: []store.Held{held(rows[0]), held(rows[2]), held(rows[6])}}))
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: last, Hold: []store.Held{held(rows[0]), held(rows[1])}}))

	lanes := []store.Lane{{Channel: "stock", Name: "ka"}, {Channel: "stock", Name: "kb"}, {Channel: "other", Name: "ka"}, {Channel: "stock", Name: "mcatalog/loose"}}
	blocked, err := e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{true, false, false, true}, "blocked lanes")
	c, err := e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(c, store.Cursor{Position: last, Channels: []string{"stock"}}, "cursor")
	due, _, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), []string{"a-000", "a-001", "a-002", "loose"}, "held messages")
	if h := due[0]; h.Lane.Error != "too large" || h.Lane.Attempts != 3 || string(h.Message.Body) != `"a-000"` || time.Since(h.Since) > time.Minute {
		e.Errorf("held message %+v", h)
	}
	skipped, _, err := e.DB.Due(e.ctx, t, []string{"stock"}, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(skipped), []string{}, "held messages of no channel")
	browsed, err := e.DB.Browse(e.ctx, 0, due[0].Position, 2)
	e.must(err)
	e.same(heldIDs(browsed), []string{"a-001", "a-002"}, "a page of held messages")

	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due[:2]}))
	due, _, err = e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), []string{"a-002", "loose"}, "held messages after two were released")
	// A release and a hold of the same lane in one step: the lane stays.
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due, Hold: []store.Held{held(rows[3])}}))
	blocked, err = e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{false, true, false, false}, "blocked lanes after all of a key were released")
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	e.same(st.Held, 1, "held messages counted")
}

// heldBeside sets messages of a lane aside while others of it are released: the
// lane must not be taken for empty meanwhile.
func (suite[Tx]) heldBeside(e *env[Tx]) {
	const n = 200
	e.put(messages(n, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	holding := make(chan error, 1)
	go func() {
		for i := range rows {
			if err := e.DB.Advance(e.ctx, t, store.Progress{To: rows[i].Position, Hold: []store.Held{held(rows[i])}}); err != nil {
				holding <- err
				return
			}
		}
		holding <- nil
	}()
	released := map[string]bool{}
	release := func() (n int) {
		due, _, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
		e.must(err)
		if len(due) > 0 {
			e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due}))
		}
		for _, h := range due {
			released[h.Message.ID] = true
		}
		return len(due)
	}
	for held := false; !held; {
		select {
		case err := <-holding:
			e.must(err)
			held = true
		default:
			release()
		}
	}
	for release() > 0 {
	}
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	if len(released) != n || st.Held != 0 {
		e.Errorf("%d of %d held messages came back, %d are left", len(released), n, st.Held)
	}
}

func (suite[Tx]) heldRetry(e *env[Tx]) {
	e.put(append(messages(2, "stock", "a"), messages(1, "other", "b")...)...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	hold := []store.Held{held(rows[0]), held(rows[1]), held(rows[2])}
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[2].Position, Hold: hold}))
	lane := hold[0].Lane
	lane.Attempts, lane.Error, lane.Retry = 4, "denied", time.Now().Add(time.Hour)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{lane}}))
	due, next, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), []string{"b-000"}, "due messages")
	if d := time.Until(next); d < 59*time.Minute || d > 61*time.Minute {
		e.Errorf("the other lane is due in %v, want an hour", d)
	}
	n, err := e.DB.RetryHeld(e.ctx, "stock", "")
	e.must(err)
	e.same(n, 1, "lanes made due")
	due, _, err = e.DB.Due(e.ctx, t, []string{"other"}, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), []string{"a-000", "a-001"}, "due messages after a person asked for them")
	e.same(due[0].Lane.Error, "denied", "error of the last attempt")
	e.same(due[0].Lane.Attempts, 4, "attempts")
}

func (suite[Tx]) later(e *env[Tx]) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	var all []*driver.Message
	for i, due := range []time.Duration{time.Hour, -time.Second, -3 * time.Second, -2 * time.Second, -2 * time.Second} {
		m := message(fmt.Sprint(i), "stock", "tea")
		m.Due = now.Add(due)
		all = append(all, m)
	}
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: all}))
	tx := e.begin()
	e.must(e.DB.Write(e.ctx, tx, store.Writes{Later: []*driver.Message{message("undone", "stock", "tea")}}))
	e.must(e.DB.Rollback(e.ctx, tx))
	t := e.lead()
	e.same(ids(e.next(t, store.Position{})), []string{}, "outbox before anything was moved")
	moved, _, err := e.DB.Promote(e.ctx, t, 3)
	e.must(err)
	e.same(moved, 3, "moved, at most 3")
	moved, next, err := e.DB.Promote(e.ctx, t, 3)
	e.must(err)
	e.same(moved, 1, "moved the second time")
	if !next.Equal(now.Add(time.Hour)) {
		e.Errorf("the next is due at %v, want %v", next, now.Add(time.Hour))
	}
	rows := e.next(t, store.Position{})
	e.same(ids(rows), []string{"2", "3", "4", "1"}, "outbox")
	if !rows[0].Message.Due.Equal(all[2].Due) {
		e.Errorf("due time %v, want %v", rows[0].Message.Due, all[2].Due)
	}
	moved, _, err = e.DB.Promote(e.ctx, t, 3)
	e.must(err)
	e.same(moved, 0, "moved when nothing is due")
}

func (suite[Tx]) cancel(e *env[Tx]) {
	var all []*driver.Message
	for _, id := range []string{"a", "b", "c"} {
		m := message(id, "stock", "tea")
		m.Due = time.Now().Add(time.Hour)
		all = append(all, m)
	}
	all[2].Due = time.Now().Add(-time.Hour)
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: all}))
	cancel := func(source string, ids ...string) (n int, tx Tx) {
		e.Helper()
		tx = e.begin()
		n, err := e.DB.Cancel(e.ctx, tx, source, ids)
		e.must(err)
		return n, tx
	}
	n, tx := cancel("somebody else", "a")
	e.same(n, 0, "cancelled under another source")
	e.must(e.DB.Rollback(e.ctx, tx))
	n, tx = cancel("catalog", "a", "b", "none")
	e.same(n, 2, "cancelled")
	e.must(e.DB.Rollback(e.ctx, tx))
	n, tx = cancel("catalog", "a")
	e.same(n, 1, "cancelled after a roll-back")
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	n, tx = cancel("catalog", "a")
	e.same(n, 0, "cancelled again")
	e.must(e.DB.Rollback(e.ctx, tx))
	t := e.lead()
	moved, _, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 1, "moved")
	n, tx = cancel("catalog", "c")
	e.same(n, 0, "cancelled too late")
	e.must(e.DB.Rollback(e.ctx, tx))
}

func (suite[Tx]) rewind(e *env[Tx]) {
	e.put(messages(6, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[5].Position, Hold: []store.Held{held(rows[4]), held(rows[5])}}))
	due, _, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due}))
	c, err := e.DB.Rewind(e.ctx, t, "broker-2")
	e.must(err)
	e.same(c.Incarnation, "broker-2", "incarnation")
	e.same(c.Channels, []string{"stock"}, "channels with held messages")
	want := []string{"tea-000", "tea-001", "tea-002", "tea-003", "tea-004", "tea-005"}
	again := e.next(t, c.Position)
	e.same(ids(again), want, "outbox after the rewind")
	due, _, err = e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), want[4:], "held messages after the rewind")
	// The relay holds all of them, since their lane is blocked; the order stays.
	var hold []store.Held
	for _, r := range again {
		hold = append(hold, held(r))
	}
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: again[5].Position, Hold: hold}))
	due, _, err = e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), want, "held messages after they were held again")
}

func (suite[Tx]) retire(e *env[Tx]) {
	e.put(messages(6, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[3].Position, Hold: []store.Held{held(rows[2]), held(rows[3])}}))
	due, _, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due[:1]}))
	// Asked to delete everything, it deletes what is published: two rows that
	// were, two copies of held ones, and the held one that was released.
	for range 10 {
		_, err := e.DB.Retire(e.ctx, t, store.Retirement{Through: rows[5].Position, Released: time.Now().Add(time.Hour)}, 1)
		e.must(err)
	}
	c, err := e.DB.Rewind(e.ctx, t, "new")
	e.must(err)
	left := e.next(t, c.Position)
	unpublished := []string{"tea-004", "tea-005"}
	if got := ids(left); len(got) < 2 || !slices.Equal(got[len(got)-2:], unpublished) {
		e.Fatalf("outbox after retiring: %v, want %v at its end", got, unpublished)
	}
	due, _, err = e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	if got := heldIDs(due); !slices.Contains(got, "tea-003") {
		e.Fatalf("held messages after retiring: %v, want tea-003 among them", got)
	}
	e.put(messages(1, "stock", "new")...)
	rows = e.next(t, left[len(left)-1].Position)
	e.same(ids(rows), []string{"new-000"}, "what was written after retiring")
}

// retireAll empties the outbox again and again: a position that is used a second
// time would hide a message from the relay.
func (suite[Tx]) retireAll(e *env[Tx]) {
	t := e.lead()
	var after store.Position
	for i := range 7 {
		id := fmt.Sprint(i)
		e.put(message(id, "stock", "tea"))
		if i == 4 && e.h.Durable {
			e.close()
			e.open()
		}
		rows := e.next(t, after)
		e.same(ids(rows), []string{id}, "what follows the cursor")
		after = rows[0].Position
		e.must(e.DB.Advance(e.ctx, t, store.Progress{To: after}))
		for range 3 {
			_, err := e.DB.Retire(e.ctx, t, store.Retirement{Through: after, Released: time.Now()}, 10)
			e.must(err)
		}
	}
}

func (suite[Tx]) stats(e *env[Tx]) {
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	if st.Backlog != 0 || !st.Oldest.IsZero() || st.Service != "" {
		e.Errorf("stats of an empty outbox: %+v", st)
	}
	m := message("later", "stock", "")
	m.Due = time.Now().Add(time.Hour)
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: messages(5, "stock", "tea"), Later: []*driver.Message{m}}))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[1].Position, Hold: []store.Held{held(rows[0])}}))
	st, err = e.DB.Stats(e.ctx, 0)
	e.must(err)
	e.same(st.Service, "catalog", "who owns the outbox")
	if st.Backlog < 2 || st.Backlog > 5 || st.Held != 1 || st.Later != 1 || time.Since(st.Oldest) > time.Minute {
		e.Errorf("stats: %+v, want a backlog of about 3, 1 held, 1 later", st)
	}
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[4].Position}))
	_, err = e.DB.Retire(e.ctx, t, store.Retirement{Through: rows[4].Position}, 100)
	e.must(err)
	st, err = e.DB.Stats(e.ctx, 0)
	e.must(err)
	if st.Backlog != 0 || !st.Oldest.IsZero() {
		e.Errorf("stats when all is published and retired: %+v", st)
	}
}

func (s suite[Tx]) reopen(e *env[Tx]) {
	e.needs("Durable", e.h.Durable)
	e.put(messages(3, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[1].Position, Incarnation: "b", Hold: []store.Held{held(rows[1])}}))
	k := store.Key{Group: "g", Handler: "h", Source: "s", ID: "1"}
	tx := e.begin()
	_, err := e.DB.Insert(e.ctx, tx, []store.Entry{{Key: k, Since: time.Now()}})
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{Token: "t"}))
	e.close()
	e.open()
	c, err := e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(c, store.Cursor{Position: rows[1].Position, Incarnation: "b", Channels: []string{"stock"}}, "cursor")
	e.same(ids(e.next(t, c.Position)), []string{"tea-002"}, "outbox")
	found, err := e.DB.Lookup(e.ctx, []store.Key{k})
	e.must(err)
	e.same(found[0].State, store.Handled, "inbox row")
	committed, err := e.DB.Resolve(e.ctx, "t")
	e.must(err)
	e.same(committed, true, "token")
}
