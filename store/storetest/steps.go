package storetest

import (
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// blockedUntilEmpty releases a lane one by one.
func (suite[Tx]) blockedUntilEmpty(e *env[Tx]) {
	e.put(append(messages(3, "stock", "tea"), message("loose", "stock", ""))...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	lanes := []store.Lane{held(rows[0]).Lane, held(rows[3]).Lane}
	for i, want := range [][]bool{{true, true}, {true, true}, {false, true}} {
		for _, h := range e.due(t) {
			if h.Message.Key == "tea" {
				e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: []store.Held{h}}))
				break
			}
		}
		blocked, err := e.DB.Blocked(e.ctx, t, lanes)
		e.must(err)
		e.same(blocked, want, "blocked lanes after a release")
		c, err := e.DB.Resume(e.ctx, t, "catalog")
		e.must(err)
		e.same(c.Channels, []string{"stock"}, "channels with held messages")
		st, err := e.DB.Stats(e.ctx, 0)
		e.must(err)
		e.same(st.Held, 3-i, "held messages counted")
	}
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: e.due(t)}))
	c, err := e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	e.same(c.Channels, []string{}, "channels with held messages when there are none")
}

// releaseAndHold has steps that release and hold in one.
func (suite[Tx]) releaseAndHold(e *env[Tx]) {
	e.put(messages(3, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows[:2]...)
	lanes := []store.Lane{held(rows[0]).Lane}
	step := func(r store.Row, want string) {
		e.Helper()
		e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[2].Position, Release: e.due(t), Hold: []store.Held{held(r)}}))
		blocked, err := e.DB.Blocked(e.ctx, t, lanes)
		e.must(err)
		e.same(blocked, []bool{true}, "blocked lanes")
		e.same(heldIDs(e.due(t)), []string{want}, "held messages")
	}
	step(rows[2], "tea-002") // another of its lane
	step(rows[2], "tea-002") // the same: everything is published again
}

func (suite[Tx]) browseWaiting(e *env[Tx]) {
	e.put(messages(2, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	lane := held(rows[0]).Lane
	lane.Attempts, lane.Error, lane.Retry = 7, "denied", time.Now().Add(time.Hour)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{lane}}))
	all, err := e.DB.Browse(e.ctx, 0, store.Position{}, 10)
	e.must(err)
	e.same(heldIDs(all), []string{"tea-000", "tea-001"}, "held messages")
	if l := all[0].Lane; l.Channel != "stock" || l.Name != lane.Name || l.Attempts != 7 || l.Error != "denied" || time.Until(l.Retry) < 50*time.Minute {
		e.Errorf("lane %+v, want %+v", l, lane)
	}
}

// discardWhole discards two messages of which the relay is trying one.
func (suite[Tx]) discardWhole(e *env[Tx]) {
	e.put(message("1", "stock", "a"), message("2", "stock", "b"))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	due, _, err := e.DB.Due(e.ctx, t, nil, store.Limit{Rows: 1, Bytes: 1 << 20}, time.Minute)
	e.must(err)
	e.same(len(due), 1, "messages that the relay is trying")
	tried, other := rows[0].Position, rows[1].Position
	if due[0].Position == other {
		tried, other = other, tried
	}
	for _, ps := range [][]store.Position{{tried, other}, {other, tried}} {
		n, err := e.DB.Discard(e.ctx, 0, ps)
		e.is(err, store.ErrTaken, "discard of two, of which one is being tried")
		e.same(n, 0, "discarded")
		all, err := e.DB.Browse(e.ctx, 0, store.Position{}, 10)
		e.must(err)
		e.same(heldIDs(all), []string{"1", "2"}, "held messages")
	}
	n, err := e.DB.Discard(e.ctx, 0, []store.Position{other, {Seq: 1 << 40}})
	e.must(err)
	e.same(n, 1, "discarded")
}

// markRequeues marks a dead letter again, as an earlier copy of it would.
func (suite[Tx]) markRequeues(e *env[Tx]) {
	x := entry("1")
	x.Requeues = 2
	e.mark(store.Dead, x)
	x.Requeues = 1
	e.mark(store.Dead, x)
	found, err := e.DB.Lookup(e.ctx, []store.Key{x.Key})
	e.must(err)
	e.same(found[0].Requeues, 2, "requeues after an earlier copy was marked")
	x.Requeues = 2
	e.same(e.enter(x), []store.State{store.Dead}, "a copy of the second requeue")
	x.Requeues = 3
	e.same(e.enter(x), []store.State{store.Released}, "the third requeue")
}
