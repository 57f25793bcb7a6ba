package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// hold has rows held and the cursor passed them.
func (e *env[Tx]) hold(t store.Term, rows ...store.Row) {
	e.Helper()
	e.holdTo(t, rows[len(rows)-1].Position, rows)
}

// holdTo has rows held and moves the cursor.
func (e *env[Tx]) holdTo(t store.Term, to store.Position, rows []store.Row) {
	e.Helper()
	p := store.Progress{To: to}
	for _, r := range rows {
		p.Hold = append(p.Hold, held(r))
	}
	e.must(e.DB.Advance(e.ctx, t, p))
}

// due returns the held messages that are due, in order.
func (e *env[Tx]) due(t store.Term, skip ...string) []store.Held {
	e.Helper()
	rows, _, err := e.DB.Due(e.ctx, t, skip, everything, time.Minute)
	e.must(err)
	return rows
}

// longKey holds messages of keys that no index of a database takes.
func (suite[Tx]) longKey(e *env[Tx]) {
	long := strings.Repeat("schlüssel 鍵 ", 400)
	ms := []*driver.Message{message("1", "stock", long), message("2", "stock", long), message("3", "stock", long+"x"), message("4", "stock", "tea")}
	e.put(ms...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows[0], rows[1])
	lanes := make([]store.Lane, len(rows))
	for i, r := range rows {
		lanes[i] = store.Lane{Channel: "stock", Name: store.LaneOf(r.Message)}
	}
	blocked, err := e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{true, true, false, false}, "blocked lanes")
	due := e.due(t)
	e.same(heldIDs(due), []string{"1", "2"}, "held messages")
	e.same(due[0].Message.Key == long, true, "the key comes back whole")
}

// errorText holds messages with what brokers say: bytes that are no text, and
// too many.
func (suite[Tx]) errorText(e *env[Tx]) {
	e.put(messages(2, "stock", "a")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	for i, text := range []string{"a\x00b\xff\xfe", strings.Repeat("ä\x00", 1<<20)} {
		h := held(rows[i])
		h.Lane.Name = fmt.Sprint("lane ", i)
		h.Lane.Error = store.ErrorText(errors.New(text))
		e.must(e.DB.Advance(e.ctx, t, store.Progress{To: rows[i].Position, Hold: []store.Held{h}}))
		h.Lane.Error = store.ErrorText(errors.New("again " + text))
		e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{h.Lane}}))
	}
	due := e.due(t)
	e.same(heldIDs(due), []string{"a-000", "a-001"}, "held messages")
	e.same(due[0].Lane.Error, "again a\uFFFDb\uFFFD", "error")
}

func (suite[Tx]) lanesByCase(e *env[Tx]) {
	e.put(message("1", "stock", "tea"), message("2", "stock", "Tea"), message("3", "Stock", "tea"), message("4", "stock", "TEA"), message("5", "stock", "tea "))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows[0])
	lanes := make([]store.Lane, len(rows))
	for i, r := range rows {
		lanes[i] = store.Lane{Channel: r.Message.Channel, Name: store.LaneOf(r.Message)}
	}
	blocked, err := e.DB.Blocked(e.ctx, t, lanes)
	e.must(err)
	e.same(blocked, []bool{true, false, false, false, false}, "blocked lanes")
	e.hold(t, rows[1:]...)
	lane := held(rows[0]).Lane
	lane.Retry = time.Now().Add(time.Hour)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{lane}}))
	got := heldIDs(e.due(t))
	slices.Sort(got)
	e.same(got, []string{"2", "3", "4", "5"}, "due messages of the other lanes")
	n, err := e.DB.RetryHeld(e.ctx, "Stock", "")
	e.must(err)
	e.same(n, 1, "lanes of a channel")
}

func (suite[Tx]) retryLane(e *env[Tx]) {
	e.put(message("1", "stock", "a"), message("2", "stock", "b"), message("3", "other", "a"))
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	put := func() {
		var lanes []store.Lane
		for _, r := range rows {
			l := held(r).Lane
			l.Retry = time.Now().Add(time.Hour)
			lanes = append(lanes, l)
		}
		e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: lanes}))
		e.same(heldIDs(e.due(t)), []string{}, "due messages before anybody asks")
	}
	for _, c := range []struct {
		channel, name string
		due           []string
	}{
		{"stock", "kb", []string{"2"}}, {"stock", "", []string{"1", "2"}}, {"other", "", []string{"3"}},
		{"", "", []string{"1", "2", "3"}}, {"nosuch", "", []string{}}, {"stock", "knone", []string{}},
	} {
		put()
		n, err := e.DB.RetryHeld(e.ctx, c.channel, c.name)
		e.must(err)
		e.same(n, len(c.due), "lanes made due of "+c.channel+" "+c.name)
		got := heldIDs(e.due(t))
		slices.Sort(got)
		e.same(got, c.due, "due messages of "+c.channel+" "+c.name)
	}
}

// dueLimits reads what is held in pages.
func (suite[Tx]) dueLimits(e *env[Tx]) {
	now := time.Now()
	var ms []*driver.Message
	for i := range 12 {
		m := message(fmt.Sprintf("%02d", i), "stock", string(rune('a'+i%3)))
		m.Body = make([]byte, 1000)
		ms = append(ms, m)
	}
	e.put(ms...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	for i, name := range []string{"kb", "kc", "ka"} { // which has waited longest
		l := store.Lane{Channel: "stock", Name: name, Retry: now.Add(time.Duration(i-10) * time.Second)}
		e.must(e.DB.Advance(e.ctx, t, store.Progress{Retry: []store.Lane{l}}))
	}
	want := []string{"01", "04", "07", "10", "02", "05", "08", "11", "00", "03", "06", "09"}
	e.same(heldIDs(e.due(t)), want, "all that is due, by lanes")
	for _, c := range []struct {
		limit store.Limit
		want  int
	}{{store.Limit{Rows: 5, Bytes: 1 << 20}, 5}, {store.Limit{Rows: 100, Bytes: 2500}, 3}, {store.Limit{Rows: 100, Bytes: 1}, 1}} {
		page, _, err := e.DB.Due(e.ctx, t, nil, c.limit, time.Minute)
		e.must(err)
		e.same(heldIDs(page), want[:c.want], fmt.Sprintf("due within %+v", c.limit))
	}
	page, err := e.DB.Browse(e.ctx, 0, store.Position{}, 4)
	e.must(err)
	e.same(heldIDs(page), []string{"00", "01", "02", "03"}, "a page to look at")
	rest, err := e.DB.Browse(e.ctx, 0, page[3].Position, 100)
	e.must(err)
	e.same(len(rest), 8, "the rest")
}

// heldAgain is a rewind after a release: what is held again is due again.
func (suite[Tx]) heldAgain(e *env[Tx]) {
	e.put(messages(2, "stock", "tea")...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: e.due(t)}))
	e.same(heldIDs(e.due(t)), []string{}, "due messages after they were released")
	e.hold(t, rows...)
	e.same(heldIDs(e.due(t)), []string{"tea-000", "tea-001"}, "due messages after they were held again")
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	e.same(st.Held, 2, "held messages counted")
}

func (suite[Tx]) browseReleased(e *env[Tx]) {
	e.put(append(messages(3, "stock", "tea"), messages(1, "stock", "b")...)...)
	t := e.lead()
	rows := e.next(t, store.Position{})
	e.hold(t, rows...)
	due := e.due(t)
	i := slices.IndexFunc(due, func(h store.Held) bool { return h.Message.ID == "tea-000" })
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: due[i : i+1]}))
	left, err := e.DB.Browse(e.ctx, 0, store.Position{}, 10)
	e.must(err)
	e.same(heldIDs(left), []string{"tea-001", "tea-002", "b-000"}, "what is held")
	e.must(e.DB.Advance(e.ctx, t, store.Progress{Release: left}))
	left, err = e.DB.Browse(e.ctx, 0, store.Position{}, 10)
	e.must(err)
	e.same(heldIDs(left), []string{}, "what is held when all is released")
}
