package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// shards has a relay for each of three shards.
func (s suite[Tx]) shards(e *env[Tx]) {
	e.needs("Sharded", e.h.Sharded != nil)
	const n = 3
	e.close()
	e.Database = e.h.Sharded(e.T, e.TempDir(), n)
	e.opened = true
	e.same(e.DB.Shards(), n, "shards")
	want := map[string][]string{} // by channel and key
	lane := func(m *driver.Message) string { return m.Channel + " " + m.Key }
	for i := range 4 {
		var w store.Writes
		for k := range 8 {
			m := message(fmt.Sprintf("%d/%d", k, i), []string{"stock", "other"}[k%2], fmt.Sprint("key ", k))
			want[lane(m)] = append(want[lane(m)], m.ID)
			if m.Due = time.Now().Add(-time.Hour); i == 3 {
				w.Later = append(w.Later, m)
			} else {
				w.Messages = append(w.Messages, m)
			}
			loose := message(fmt.Sprintf("loose %d/%d", k, i), "stock", "")
			want[lane(loose)] = append(want[lane(loose)], loose.ID)
			w.Messages = append(w.Messages, loose)
		}
		e.must(e.DB.Commit(e.ctx, e.begin(), w))
	}
	var terms [n]store.Term
	var rows [n][]store.Row
	got := map[string][]string{}
	shardOf := map[string]int{}
	for i := range n {
		t, err := store.Lead(e.ctx, e.DB, i, fmt.Sprint("leader ", i), time.Minute)
		e.must(err)
		terms[i] = t
		_, err = e.DB.Resume(e.ctx, t, "catalog")
		e.must(err)
	}
	moved := 0
	for i := range n {
		some, _, err := e.DB.Promote(e.ctx, terms[i], 100)
		e.must(err)
		moved += some
	}
	e.same(moved, 8, "delayed messages that were moved, by all shards")
	for i, t := range terms {
		for after := (store.Position{}); ; {
			some := e.next(t, after)
			if len(some) == 0 {
				break
			}
			rows[i] = append(rows[i], some...)
			after = some[len(some)-1].Position
		}
		if len(rows[i]) == 0 {
			e.Fatalf("shard %d has none of 64 messages", i)
		}
		for _, r := range rows[i] {
			l := lane(r.Message)
			if other, ok := shardOf[l]; ok && other != i && r.Message.Key != "" {
				e.Errorf("messages of %s are in shards %d and %d", l, other, i)
			}
			shardOf[l] = i
			got[l] = append(got[l], r.Message.ID)
		}
	}
	for l, all := range want {
		if l == "stock " { // without a key, in any order
			slices.Sort(all)
			slices.Sort(got[l])
		}
		e.same(got[l], all, "messages of "+l)
	}
	e.apart(terms[:], rows[:])
}

// apart checks that what is done to one shard is not done to the others.
func (e *env[Tx]) apart(terms []store.Term, rows [][]store.Row) {
	e.Helper()
	stats := func(i int) store.Stats {
		e.Helper()
		st, err := e.DB.Stats(e.ctx, i)
		e.must(err)
		return st
	}
	cursor := func(i int, want store.Position, when string) {
		e.Helper()
		c, err := e.DB.Resume(e.ctx, terms[i], "catalog")
		e.must(err)
		e.same(c.Position, want, fmt.Sprintf("cursor of shard %d %s", i, when))
	}
	last := func(i int) store.Position { return rows[i][len(rows[i])-1].Position }
	for i, t := range terms {
		first := held(rows[i][0])
		first.Lane.Retry = time.Now().Add(time.Hour)
		e.must(e.DB.Advance(e.ctx, t, store.Progress{To: last(i), Incarnation: "broker", Hold: []store.Held{first}}))
		cursor(i, last(i), "after it was advanced")
		if next := i + 1; next < len(terms) {
			cursor(next, store.Position{}, "beside one that was advanced")
			if st := stats(next); st.Backlog == 0 || st.Held != 0 {
				e.Errorf("stats of shard %d beside one that was advanced: %+v", next, st)
			}
		}
	}
	n, err := e.DB.RetryHeld(e.ctx, "", "")
	e.must(err)
	e.same(n, len(terms), "lanes made due, in all shards")
	for i, t := range terms {
		want := []string{rows[i][0].Message.ID}
		e.same(heldIDs(e.due(t)), want, fmt.Sprintf("held messages of shard %d", i))
		all, err := e.DB.Browse(e.ctx, i, store.Position{}, 10)
		e.must(err)
		e.same(heldIDs(all), want, fmt.Sprintf("held messages to look at, of shard %d", i))
	}
	// Somebody else has the last shard, and rewinds it.
	lost := len(terms) - 1
	e.must(e.DB.Resign(e.ctx, terms[lost].Lease))
	e.is(e.DB.Advance(e.ctx, terms[lost], store.Progress{Incarnation: "late"}), store.ErrFenced, "advance of a shard that was given up")
	e.must(e.DB.Advance(e.ctx, terms[0], store.Progress{Incarnation: "broker"}))
	t, err := store.Lead(e.ctx, e.DB, lost, "successor", time.Minute)
	e.must(err)
	_, err = e.DB.Resume(e.ctx, t, "catalog")
	e.must(err)
	_, err = e.DB.Rewind(e.ctx, t, "new broker")
	e.must(err)
	cursor(0, last(0), "after another was rewound")
	for range 10 {
		_, err = e.DB.Retire(e.ctx, terms[0], store.Retirement{Through: last(0), Released: time.Now()}, 100)
		e.must(err)
	}
	e.same(len(e.next(t, store.Position{})), len(rows[lost]), "what is left of a shard when another is retired")
}
