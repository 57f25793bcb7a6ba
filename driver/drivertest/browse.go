package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

var browseTests = map[string]test{
	"Browser_pages_through_a_channel_and_consumes_nothing": {run: testBrowse},
	"Browser_removes_single_messages":                      {run: testBrowseRemove},
}

func (e *env) browser(c driver.Conn) (driver.Browser, bool) {
	b, ok := c.(driver.Browser)
	if !ok {
		e.gap("driver.Browser is not implemented")
	}
	return b, ok
}

// page reads a channel from the beginning in pages of size.
func (e *env) page(b driver.Browser, channel string, size int) []driver.StoredMessage {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	var all []driver.StoredMessage
	for after := ""; ; {
		page, err := b.Browse(ctx, channel, after, size)
		if err != nil {
			e.Fatalf("browse after %q: %v", after, err)
		}
		if len(page) > size {
			e.Fatalf("Browse returned %d messages, want at most %d", len(page), size)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		if after == page[len(page)-1].Position {
			e.Fatalf("Browse after %q returned %q", after, after)
		}
		after = page[len(page)-1].Position
	}
}

func testBrowse(e *env) {
	c := e.conn()
	b, ok := e.browser(c)
	if !ok {
		return
	}
	ch := e.channel(driver.PointToPoint)
	e.provision(c, []driver.Channel{ch}, nil)
	if got := e.page(b, ch.Name, 10); len(got) != 0 {
		e.Fatalf("an empty channel holds %d", len(got))
	}
	ms := e.messages(ch, 25, 3)
	ms[7].Headers = driver.Headers{{Name: "error", Value: awkward}}
	e.send(c, ms...)
	for _, size := range []int{1, 10, 100} {
		got := e.page(b, ch.Name, size)
		if len(got) != len(ms) {
			e.Fatalf("pages of %d: %d messages, want %d", size, len(got), len(ms))
		}
		for i, st := range got {
			e.sameMessage(&driver.Delivery{Message: st.Message}, ms[i])
		}
	}
	s := e.subscription(ch, "worker")
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	r := e.receiver(c, s)
	ds := e.take(r, len(ms))
	for _, d := range ds {
		e.attempt(d, 1)
	}
	e.settle(r, driver.Ack, ds...)
	e.learn(c)
	if got := e.page(b, ch.Name, 10); len(got) != 0 {
		e.Fatalf("%d messages are still there after all were acknowledged", len(got))
	}
	ctx, cancel := e.within()
	defer cancel()
	_, err := b.Browse(ctx, e.channel(driver.PointToPoint).Name, "", 1)
	e.wantKind(c, err, driver.NotFound, "browsing a channel that nobody provisioned")
}

func testBrowseRemove(e *env) {
	c := e.conn()
	b, ok := e.browser(c)
	if !ok {
		return
	}
	ch := e.channel(driver.PointToPoint)
	e.provision(c, []driver.Channel{ch}, nil)
	e.send(c, e.messages(ch, 6, 1)...)
	all := e.page(b, ch.Name, 4)
	if len(all) != 6 {
		e.Fatalf("browsed %d, want 6", len(all))
	}
	ctx, cancel := e.within()
	defer cancel()
	gone := []string{all[0].Position, all[3].Position}
	for range 2 { // the second time they are not there, which is passed over
		if err := b.Remove(ctx, ch.Name, gone); err != nil {
			e.Fatalf("remove: %v", err)
		}
	}
	want := []int{1, 2, 4, 5}
	left := e.page(b, ch.Name, 3)
	if len(left) != len(want) {
		e.Fatalf("%d are left, want %d", len(left), len(want))
	}
	for i, st := range left {
		if number(st.Message) != want[i] {
			e.Errorf("message %d that is left is %s, want k0/%d", i, st.Message.ID, want[i])
		}
	}
	// Paging goes on from a position that is no longer there.
	next, err := b.Browse(ctx, ch.Name, gone[1], 10)
	if err != nil || len(next) != 2 || number(next[0].Message) != 4 {
		e.Fatalf("browsing after a removed position: %d messages, %v; want k0/4 and k0/5", len(next), err)
	}
	s := e.subscription(ch, "worker")
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	r := e.receiver(c, s)
	for _, n := range want {
		d := e.one(r)
		if number(d.Message) != n {
			e.Fatalf("received %s, want k0/%d", d.Message.ID, n)
		}
		e.settle(r, driver.Ack, d)
	}
	e.nothing(r, "the removed are gone")
}
