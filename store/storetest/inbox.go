package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func isFenced(err error) bool { return errors.Is(err, store.ErrFenced) }

func entry(id string) store.Entry {
	return store.Entry{Key: store.Key{Group: "shop", Handler: "order-placed.v1", Source: "ordering", ID: id}, Since: time.Now()}
}

// enter enters messages and commits; it returns the states that were found.
func (e *env[Tx]) enter(entries ...store.Entry) []store.State {
	e.Helper()
	tx := e.begin()
	found, err := e.DB.Insert(e.ctx, tx, entries)
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	return states(found)
}

func states(found []store.InboxRow) []store.State {
	all := make([]store.State, len(found))
	for i, f := range found {
		all[i] = f.State
	}
	return all
}

func (e *env[Tx]) mark(s store.State, entries ...store.Entry) []store.State {
	e.Helper()
	tx := e.begin()
	found, err := e.DB.Mark(e.ctx, tx, entries, s)
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	return states(found)
}

func (e *env[Tx]) state(x store.Entry) store.State {
	e.Helper()
	found, err := e.DB.Lookup(e.ctx, []store.Key{x.Key})
	e.must(err)
	return found[0].State
}

func (suite[Tx]) enterOnce(e *env[Tx]) {
	e.same(e.enter(entry("1"), entry("3")), []store.State{"", ""}, "new messages")
	e.same(e.enter(entry("1"), entry("2"), entry("3")), []store.State{store.Handled, "", store.Handled}, "two that come again")
	many := make([]store.Entry, 500)
	for i := range many {
		many[i] = entry(fmt.Sprintf("many-%03d", i))
	}
	for _, s := range e.enter(many...) {
		e.same(s, "", "one of 500 new messages")
	}
	for _, s := range e.enter(many...) {
		e.same(s, store.Handled, "one of 500 that come again")
	}
}

func (suite[Tx]) enterRollback(e *env[Tx]) {
	tx := e.begin()
	_, err := e.DB.Insert(e.ctx, tx, []store.Entry{entry("1")})
	e.must(err)
	_, err = e.Count(e.ctx, tx, "tea")
	e.must(err)
	e.must(e.DB.Rollback(e.ctx, tx))
	e.same(e.state(entry("1")), "", "state after a roll-back")
	e.same(e.enter(entry("1")), []store.State{""}, "the message when it comes again")
}

// enterRace has two transactions enter the same messages: one effect.
func (suite[Tx]) enterRace(e *env[Tx]) {
	const rounds = 10
	for round := range rounds {
		entries := []store.Entry{entry(fmt.Sprintf("%d-a", round)), entry(fmt.Sprintf("%d-b", round))}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				err := e.enterAndCount(entries)
				for e.again(err) {
					err = e.enterAndCount(entries)
				}
				if err != nil {
					e.Error(err)
				}
			})
		}
		wg.Wait()
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts["effects"], rounds, "effects")
}

// enterAndCount is a transaction of a consumer.
func (e *env[Tx]) enterAndCount(entries []store.Entry) error {
	tx, err := e.DB.Begin(e.ctx)
	if err != nil {
		return err
	}
	found, err := e.DB.Insert(e.ctx, tx, entries)
	if err == nil && found[0].State == "" {
		_, err = e.Count(e.ctx, tx, "effects")
	}
	if err != nil {
		return errors.Join(err, e.DB.Rollback(e.ctx, tx))
	}
	return e.DB.Commit(e.ctx, tx, store.Writes{})
}

func (suite[Tx]) reply(e *env[Tx]) {
	replies := []driver.Reply{
		{Status: "", ContentType: "application/octet-stream", Body: []byte("a\x00b\xff\n")},
		{Status: "refused", ContentType: "application/problem+json", Body: []byte(`{"code":"out-of-stock"}`)},
		{ContentType: "application/json; charset=utf-8", Body: bytes.Repeat([]byte("ä"), 200_000)},
		{},
	}
	tx := e.begin()
	var entries []store.Entry
	var kept []store.KeptReply
	for i, r := range replies {
		x := entry(fmt.Sprint(i))
		entries = append(entries, x)
		kept = append(kept, store.KeptReply{Key: x.Key, Reply: r})
	}
	_, err := e.DB.Insert(e.ctx, tx, entries)
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{Replies: kept[:3]}))
	tx = e.begin()
	found, err := e.DB.Insert(e.ctx, tx, entries)
	e.must(err)
	e.must(e.DB.Rollback(e.ctx, tx))
	for i, f := range found {
		r := replies[i]
		if f.State != store.Handled || f.Reply.Status != r.Status || f.Reply.ContentType != r.ContentType || !bytes.Equal(f.Reply.Body, r.Body) {
			e.Errorf("reply %d: %s %q %q, %d bytes; want %q %q, %d bytes", i, f.State, f.Reply.Status, f.Reply.ContentType,
				len(f.Reply.Body), r.Status, r.ContentType, len(r.Body))
		}
	}
	looked, err := e.DB.Lookup(e.ctx, []store.Key{entries[1].Key, entry("none").Key})
	e.must(err)
	e.same(string(looked[0].Reply.Body), string(replies[1].Body), "reply that was looked up")
	e.same(looked[1].State, "", "state of a message that never came")
}

func (suite[Tx]) keys(e *env[Tx]) {
	x := entry("1")
	others := []store.Entry{x, x, x, x}
	others[0].Group = "shop.mail"
	others[1].Handler = "order-placed.v2"
	others[2].Source = "Ordering"
	others[3].ID = "1 "
	e.enter(x)
	for _, o := range others {
		e.same(e.enter(o), []store.State{""}, fmt.Sprintf("message %+v", o.Key))
	}
}

func (suite[Tx]) dead(e *env[Tx]) {
	x := entry("1")
	e.same(e.mark(store.Dead, x), []store.State{""}, "state before it died")
	e.same(e.enter(x), []store.State{store.Dead}, "a copy")
	e.same(e.state(x), store.Dead, "state after a copy came")
	x.Requeues = 1
	tx := e.begin() // a requeue that fails
	found, err := e.DB.Insert(e.ctx, tx, []store.Entry{x})
	e.must(err)
	e.same(states(found), []store.State{store.Released}, "a requeue")
	e.must(e.DB.Rollback(e.ctx, tx))
	e.same(e.mark(store.Dead, x), []store.State{store.Dead}, "state before it died again")
	e.same(e.enter(x), []store.State{store.Dead}, "a copy of the requeue")
	x.Requeues = 2
	e.same(e.enter(x), []store.State{store.Released}, "the next requeue")
	e.same(e.enter(x), []store.State{store.Handled}, "a copy of the next requeue")
	e.same(e.mark(store.Dead, x), []store.State{store.Handled}, "marking what was handled")
	e.same(e.state(x), store.Handled, "state after that")

	y := entry("2")
	e.mark(store.Dead, y)
	e.mark(store.Released, y)
	e.same(e.enter(y), []store.State{store.Released}, "a message that somebody released")
	e.same(e.state(y), store.Handled, "its state")
}

func (suite[Tx]) cancelled(e *env[Tx]) {
	x := entry("1")
	e.same(e.mark(store.Cancelled, x), []store.State{""}, "state before it was cancelled")
	x.Requeues = 5
	e.same(e.enter(x), []store.State{store.Cancelled}, "the message")
	e.same(e.state(x), store.Cancelled, "its state")
}

func (suite[Tx]) leave(e *env[Tx]) {
	a, b, c := entry("a"), entry("b"), entry("c")
	e.mark(store.Dead, b)
	b.Requeues = 1
	tx := e.begin()
	found, err := e.DB.Insert(e.ctx, tx, []store.Entry{a, b, c})
	e.must(err)
	e.must(e.DB.Undo(e.ctx, tx, []store.Entry{a, b}, found[:2]))
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	e.same(e.enter(a, b, c), []store.State{"", store.Released, store.Handled}, "two that were left and one that was handled")
}

func (suite[Tx]) purge(e *env[Tx]) {
	now := time.Now()
	at := func(id string, ago time.Duration) store.Entry {
		x := entry(id)
		x.Since = now.Add(-ago)
		return x
	}
	old, older, young, ahead := at("old", 2*time.Hour), at("older", 3*time.Hour), at("young", 0), at("ahead", -24*time.Hour)
	e.enter(ahead, old, older, young)
	dead, gone, freed := at("dead", 2*time.Hour), at("gone", 2*time.Hour), at("freed", 2*time.Hour)
	e.mark(store.Dead, dead)
	e.mark(store.Cancelled, gone)
	e.mark(store.Released, freed)
	n, err := e.DB.Purge(e.ctx, now.Add(-time.Hour), 1)
	e.must(err)
	e.same(n, 1, "purged, at most 1")
	e.same(e.state(older), "", "state of the oldest")
	e.same(e.state(old), store.Handled, "state of the next")
	n, err = e.DB.Purge(e.ctx, now.Add(-time.Hour), 100)
	e.must(err)
	e.same(n, 1, "purged")
	for x, want := range map[store.Entry]store.State{old: "", young: store.Handled, ahead: store.Handled,
		dead: store.Dead, gone: store.Cancelled, freed: store.Released} {
		e.same(e.state(x), want, "state of "+x.ID)
	}
}
