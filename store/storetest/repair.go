package storetest

import (
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// unreadable reads an outbox in which rows cannot be read.
func (suite[Tx]) unreadable(e *env[Tx]) {
	e.needs("Spoil", e.Spoil != nil)
	ms := []*driver.Message{message("1", "stock", "a"), message("bad", "stock", "tea"), message("2", "stock", "tea"), message("worse", "other", ""), message("3", "stock", "b")}
	e.put(ms...)
	late := message("late", "stock", "")
	late.Due = time.Now().Add(-time.Minute)
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Later: []*driver.Message{late}}))
	e.must(e.Spoil(e.ctx, "bad"))
	e.must(e.Spoil(e.ctx, "worse"))
	t := e.lead()
	read := func() {
		e.Helper()
		rows := e.next(t, store.Position{})
		e.same(ids(rows), []string{"1", "bad", "2", "worse", "3"}, "outbox")
		for i, r := range rows {
			if spoilt := i == 1 || i == 3; spoilt != (r.Err != nil) || spoilt != (r.Text != "") {
				e.Errorf("row %s: error %v, text %q", r.Message.ID, r.Err, r.Text)
			}
			want := ms[i]
			if m := r.Message; m.Channel != want.Channel || m.Key != want.Key || string(m.Body) != string(want.Body) {
				e.Errorf("row %s: %+v", m.ID, m)
			}
		}
	}
	read()
	read() // also from what is known of the window by now
	moved, _, err := e.DB.Promote(e.ctx, t, 10)
	e.must(err)
	e.same(moved, 1, "moved beside what cannot be read")
}

// unreadableHeld sets rows aside that cannot be read, looks at one, edits it, and
// discards the other.
func (suite[Tx]) unreadableHeld(e *env[Tx]) {
	e.needs("Spoil", e.Spoil != nil)
	e.put(message("bad", "stock", "tea"), message("2", "stock", "tea"), message("worse", "stock", ""))
	e.must(e.Spoil(e.ctx, "bad"))
	e.must(e.Spoil(e.ctx, "worse"))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	all, err := e.DB.Browse(e.ctx, 0, store.Position{}, 10)
	e.must(err)
	e.same(heldIDs(all), []string{"bad", "2", "worse"}, "held messages")
	if all[0].Err == nil || all[0].Text == "" || all[1].Err != nil || all[2].Err == nil || string(all[0].Message.Body) != `"bad"` {
		e.Fatalf("held messages %+v", all)
	}
	due := e.due(t)
	e.same(len(due), 3, "due messages, also those that cannot be read")
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{due[0].Lane, due[len(due)-1].Lane}}))
	repaired := message("bad", "stock", "tea")
	repaired.Body = []byte(`"good"`)
	e.must(e.DB.Edit(e.ctx, 0, all[0].Position, repaired))
	n, err := e.DB.Discard(e.ctx, 0, []store.Position{all[2].Position})
	e.must(err)
	e.same(n, 1, "discarded")
	all, err = e.DB.Browse(e.ctx, 0, store.Position{}, 10)
	e.must(err)
	e.same(heldIDs(all), []string{"bad", "2"}, "held messages")
	if m := all[0].Message; all[0].Err != nil || string(m.Body) != `"good"` || m.Type != repaired.Type || m.Source != repaired.Source {
		e.Errorf("edited message %+v, %v", m, all[0].Err)
	}
}

// settle gives all lanes back that Due has taken.
func (e *env[Tx]) settle(t store.Term, due []store.Held) {
	e.Helper()
	var lanes []store.Lane
	for _, h := range due {
		lanes = append(lanes, h.Lane)
	}
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: lanes}))
}

// edited edits what is held, and then has the outbox read from the beginning:
// nobody may meet the old body again.
func (suite[Tx]) edited(e *env[Tx]) {
	e.put(append(messages(3, "stock", "tea"), message("loose", "stock", ""))...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	e.settle(t, e.due(t))
	for _, i := range []int{1, 3} {
		m := rows[i].Message.Clone()
		m.Body, m.Headers = []byte(`"edited"`), driver.Headers{{Name: "checked-by", Value: "ana"}}
		m.ID, m.Channel, m.Key = "another", "another", "another" // which stay
		e.must(e.DB.Edit(e.ctx, 0, rows[i].Position, m))
	}
	unheld := store.Position{Window: rows[0].Position.Window, Seq: rows[3].Position.Seq + 1000}
	e.is(e.DB.Edit(e.ctx, 0, unheld, rows[0].Message), store.ErrNotHeld, "edit of what is not held")
	check := func(all []store.Row, when string) {
		e.Helper()
		e.same(ids(all), []string{"tea-000", "tea-001", "tea-002", "loose"}, when)
		for i, r := range all {
			if edited := i == 1 || i == 3; edited != (string(r.Message.Body) == `"edited"`) || edited != (r.Message.Headers.Get("checked-by") == "ana") ||
				r.Message.Channel != "stock" || r.Message.Key != rows[i].Message.Key {
				e.Errorf("%s: message %s has %s, %v", when, r.Message.ID, r.Message.Body, r.Message.Headers)
			}
		}
	}
	check(rowsOf(e.due(t)), "held messages")
	// The relay may begin at an earlier cursor, with what it read in hand.
	c, err := e.DB.Rewind(e.ctx, t, "new")
	e.must(err)
	again := e.next(t, c.Position)
	check(again, "outbox after a rewind")
	e.holdTo(t, again[3].Position, rows) // as they were
	check(rowsOf(e.due(t)), "messages that were held again as they had been read")
	// Once published they are not held.
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: e.due(t)}))
	e.is(e.DB.Edit(e.ctx, 0, rows[1].Position, rows[1].Message), store.ErrNotHeld, "edit of what was released")
}

func rowsOf(all []store.Held) []store.Row {
	rows := make([]store.Row, len(all))
	for i, h := range all {
		rows[i] = h.Row
	}
	return rows
}

func (suite[Tx]) discarded(e *env[Tx]) {
	e.put(append(messages(3, "stock", "tea"), message("loose", "stock", ""))...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	e.settle(t, e.due(t))
	lane := held(rows[0]).Lane
	lane.Retry = time.Now().Add(time.Hour)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{lane}}))
	n, err := e.DB.Discard(e.ctx, 0, []store.Position{rows[0].Position, rows[3].Position})
	e.must(err)
	e.same(n, 2, "discarded")
	n, err = e.DB.Discard(e.ctx, 0, []store.Position{rows[0].Position})
	e.must(err)
	e.same(n, 0, "discarded again")
	want := []string{"tea-001", "tea-002"}
	e.same(heldIDs(e.due(t)), want, "what is left, due at once")
	lanes := []store.Lane{{Channel: "stock", Name: "ktea"}, {Channel: "stock", Name: store.LaneOf(rows[3].Message)}}
	blocked, err := e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{true, false}, "blocked lanes")
	c, err := e.DB.Rewind(e.ctx, t, "new")
	e.must(err)
	again := e.next(t, c.Position)
	e.same(ids(again), want, "outbox after a rewind")
	e.holdTo(t, again[1].Position, rows) // the relay had them in hand
	e.same(heldIDs(e.due(t)), want, "held messages after they were held again as they had been read")
	blocked, err = e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{true, false}, "blocked lanes")
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	e.same(st.Held, 2, "held messages counted")
}

// taken is a message that the relay is trying.
func (suite[Tx]) taken(e *env[Tx]) {
	e.put(message("1", "stock", "a"), message("2", "stock", "b"))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	try := func(want error, when string) {
		e.Helper()
		err := e.DB.Edit(e.ctx, 0, rows[0].Position, rows[0].Message)
		if !errors.Is(err, want) {
			e.Fatalf("edit %s: %v, want %v", when, err, want)
		}
	}
	due, _, err := e.DB.Due(e.ctx, t, nil, everything, time.Minute)
	e.must(err)
	e.same(heldIDs(due), []string{"1", "2"}, "due messages")
	try(store.ErrTaken, "of what is being tried")
	n, err := e.DB.Discard(e.ctx, 0, []store.Position{rows[1].Position, rows[0].Position})
	e.is(err, store.ErrTaken, "discard of what is being tried")
	e.same(n, 0, "discarded")
	e.settle(t, due[:1])
	try(nil, "after it was tried")
	_, err = e.DB.Discard(e.ctx, 0, []store.Position{rows[1].Position})
	e.is(err, store.ErrTaken, "discard of the other, which is still being tried")
	_, _, err = e.DB.Due(e.ctx, t, nil, everything, time.Millisecond)
	e.must(err)
	e.passed(10 * time.Millisecond)
	try(nil, "after the relay's time was over")
	n, err = e.DB.Discard(e.ctx, 0, []store.Position{rows[1].Position})
	e.must(err)
	e.same(n, 1, "discarded")
	e.same(heldIDs(e.due(t)), []string{"1"}, "due messages")
	late := e.leadLate()
	_, _, err = e.DB.Due(e.ctx, late, nil, everything, time.Minute)
	e.is(err, store.ErrFenced, "taking held messages after the lease has passed")
}

// leadLate returns a term that has passed.
func (e *env[Tx]) leadLate() store.Term {
	e.Helper()
	now := e.lead()
	e.must(e.DB.Resign(e.ctx, now.Lease))
	return now
}
