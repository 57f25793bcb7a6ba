package storetest

import (
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// many is more than a statement of a database takes if it has an argument for
// every column of every row.
const many = 3000

// large gives every method that takes a list a long one.
func (suite[Tx]) large(e *env[Tx]) {
	var w store.Writes
	var entries []store.Entry
	var keys []store.Key
	var later []string
	for i := range many {
		m := message(fmt.Sprintf("%05d", i), "stock", fmt.Sprintf("key %05d", i))
		w.Messages = append(w.Messages, m)
		d := message(fmt.Sprintf("later %05d", i), "stock", "")
		d.Due = time.Now().Add(time.Hour)
		w.Later, later = append(w.Later, d), append(later, d.ID)
		x := entry(m.ID)
		entries, keys = append(entries, x), append(keys, x.Key)
		w.Replies = append(w.Replies, store.KeptReply{Key: x.Key, Reply: driver.Reply{Body: []byte(m.ID)}})
	}
	tx := e.begin()
	found, err := e.DB.Insert(e.ctx, tx, entries)
	e.must(err)
	e.same(len(found), many, "entries")
	e.must(e.DB.Commit(e.ctx, tx, w))
	found, err = e.DB.Lookup(e.ctx, keys)
	e.must(err)
	for i, f := range found {
		if f.State != store.Handled || string(f.Reply.Body) != keys[i].ID {
			e.Fatalf("inbox row %d of %d: %s, reply %q", i, many, f.State, f.Reply.Body)
		}
	}
	e.heldLarge()
	tx = e.begin()
	n, err := e.DB.Cancel(e.ctx, tx, "catalog", later)
	e.must(err)
	e.same(n, many, "delayed messages that were cancelled")
	dead := make([]store.Entry, many)
	for i := range dead {
		dead[i] = entry(fmt.Sprintf("dead %05d", i))
	}
	_, err = e.DB.Mark(e.ctx, tx, dead, store.Dead)
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	tx = e.begin()
	found, err = e.DB.Insert(e.ctx, tx, dead)
	e.must(err)
	for i, f := range found {
		if f.State != store.Dead {
			e.Fatalf("dead letter %d of %d is %q", i, many, f.State)
		}
	}
	fresh := make([]store.Entry, many)
	for i := range fresh {
		fresh[i] = entry(fmt.Sprintf("fresh %05d", i))
	}
	found, err = e.DB.Insert(e.ctx, tx, fresh)
	e.must(err)
	e.must(e.DB.Undo(e.ctx, tx, fresh, found))
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
	for i := range fresh {
		keys[i] = fresh[i].Key
	}
	found, err = e.DB.Lookup(e.ctx, keys)
	e.must(err)
	for i, f := range found {
		if f.State != "" {
			e.Fatalf("inbox row %d of %d that was left is %q", i, many, f.State)
		}
	}
}

// heldLarge has the relay hold, try and release all messages at once.
func (e *env[Tx]) heldLarge() {
	e.Helper()
	t := e.lead()
	var rows []store.Row
	var after store.Position
	for {
		some := e.next(t, after)
		if len(some) == 0 {
			break
		}
		rows = append(rows, some...)
		after = some[len(some)-1].Position
	}
	e.same(len(rows), many, "messages")
	e.hold(t, rows...)
	lanes := make([]store.Lane, many)
	for i, r := range rows {
		lanes[i] = held(r).Lane
		lanes[i].Retry = time.Now().Add(time.Hour)
	}
	all := func(want bool, when string) {
		e.Helper()
		blocked, err := e.DB.Blocked(e.ctx, t, lanes)
		e.must(err)
		for i, b := range blocked {
			if b != want {
				e.Fatalf("lane %d of %d is blocked: %v, want %v %s", i, many, b, want, when)
			}
		}
	}
	all(true, "when all are held")
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: lanes}))
	e.same(len(e.due(t)), 0, "due messages, when all lanes wait")
	_, err := e.DB.RetryHeld(e.ctx, "", "")
	e.must(err)
	due := e.due(t)
	e.same(len(due), many, "due messages, when all lanes were made due")
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due[:many/2]}))
	e.settle(t, due[many/2:])
	var ps []store.Position
	for _, h := range due[many/2:] {
		ps = append(ps, h.Position)
	}
	n, err := e.DB.Discard(e.ctx, 0, ps)
	e.must(err)
	e.same(n, many-many/2, "discarded")
	all(false, "when all are released or discarded")
}

// noText writes what is no text into every field that may be one. It comes back
// to the byte, or is refused and leaves nothing: never something else.
func (suite[Tx]) noText(e *env[Tx]) {
	t := e.lead()
	var after store.Position
	fields := map[string]func(m *driver.Message) *string{
		"id": func(m *driver.Message) *string { return &m.ID }, "key": func(m *driver.Message) *string { return &m.Key },
		"channel": func(m *driver.Message) *string { return &m.Channel }, "source": func(m *driver.Message) *string { return &m.Source },
		"type": func(m *driver.Message) *string { return &m.Type }, "header": func(m *driver.Message) *string { return &m.Headers[0].Value },
	}
	for name, field := range fields {
		for i, text := range []string{"a\xff\xfeb", "a\x00b", "a\xed\xa0\x80b"} {
			m := message(fmt.Sprint(name, i), "stock", "tea")
			m.Headers = driver.Headers{{Name: "h", Value: "v"}}
			*field(m) = text
			want := []string{m.ID}
			if err := e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: []*driver.Message{m}}); err != nil {
				want = nil
			}
			e.put(message("next", "stock", "tea"))
			var rows []store.Row
			for {
				some := e.next(t, after)
				if len(some) == 0 {
					break
				}
				rows = append(rows, some...)
				after = some[len(some)-1].Position
			}
			e.same(ids(rows), append(want, "next"), fmt.Sprintf("messages after %q as %s", text, name))
			if want != nil && *field(rows[0].Message) != text {
				e.Errorf("%s %q came back as %q", name, text, *field(rows[0].Message))
			}
		}
	}
	for _, pair := range [][2]string{{"a\xff", "a\xfe"}, {"b\x00c", "b\x00d"}} {
		for _, id := range pair {
			tx := e.begin()
			found, err := e.DB.Insert(e.ctx, tx, []store.Entry{entry(id)})
			if err != nil {
				e.must(e.DB.Rollback(e.ctx, tx))
				continue
			}
			e.must(e.DB.Commit(e.ctx, tx, store.Writes{}))
			e.same(states(found), []store.State{""}, fmt.Sprintf("a message with the id %q", id))
		}
	}
}
