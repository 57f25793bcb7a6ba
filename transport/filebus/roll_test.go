package filebus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// A process that dies, or finds the disk full, between making a segment and
// marking it leaves one that nobody appends to: the next appender goes on in the
// segment that the mark names, if what it has fits there.

// leaveUnmarked makes the segment that the next roll would, and leaves it.
func (b *bench) leaveUnmarked(c *Conn, torn bool) string {
	b.Helper()
	w := c.channels[b.ch.Name].log
	if err := w.acquire(b.ctx()); err != nil {
		b.Fatal(err)
	}
	f, err := createSegment(w.dir, segmentInfo{base: w.mark.next, prev: w.mark.next, counts: slices.Clone(w.mark.counts)})
	if err == nil && torn {
		err = f.Truncate(100)
	}
	if err := errors.Join(err, f.Close(), w.release()); err != nil {
		b.Fatal(err)
	}
	return f.Name()
}

// sendBig sends messages numbered from, from+1… that fill a segment of 64 KiB by
// the dozen, each in a batch of its own.
func (b *bench) sendBig(c *Conn, from, n int) {
	b.Helper()
	for i := range n {
		m := b.message(from + i)
		m.Body = make([]byte, 5<<10)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			b.Fatalf("send: %v", err)
		}
	}
}

func (b *bench) takeAllOnce(r driver.Receiver, n int) {
	b.Helper()
	seen := map[string]bool{}
	for range n {
		d := b.take(r, 1, true)[0]
		if d.Fault != nil || seen[d.Message.ID] {
			b.Fatalf("%q came with fault %v, before: %v", d.Message.ID, d.Fault, seen[d.Message.ID])
		}
		seen[d.Message.ID] = true
	}
	b.nothing(r)
}

func TestCrash_while_a_segment_is_begun_damages_nothing(t *testing.T) {
	ct := newCrashTest(t)
	ct.died(ct.start("sender", "rolled:2", 0))
	n := len(ct.confirmed())
	c := ct.open()
	r := ct.receiver(c)
	ct.send(c, 5000, 1) // fits into the segment before
	ct.sendBig(c, 5001, 30)
	ct.takeAllOnce(r, n+31)
}

func TestLog_with_a_segment_that_was_never_marked_is_read_past_it(t *testing.T) {
	for _, torn := range []bool{false, true} {
		drivertest.CheckLeaks(t)
		b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
		c := b.open()
		b.sendBig(c, 0, 8)
		left := b.leaveUnmarked(c, torn)
		b.send(c, 8, 2)
		r := b.receiver(c) // its partitions have no cursor yet: their place is looked for
		if infos, err := c.Channels(b.ctx()); err != nil || infos[0].Messages != 10 {
			t.Errorf("listed %+v, %v; want 10 messages", infos, err)
		}
		b.takeAllOnce(r, 10)
		b.sendBig(c, 10, 20)
		b.takeAllOnce(r, 20)
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", left, err)
		}
		b.close(c)
	}
}

// A group that begins behind the segment that was never marked.
func TestGroup_that_begins_beyond_a_segment_never_marked_receives(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	b.ch.Kind = driver.PublishSubscribe
	b.sub.Channel = b.ch
	c := b.open()
	b.sendBig(c, 0, 8)
	b.leaveUnmarked(c, false)
	b.send(c, 8, 2)
	b.sub.Group = "late"
	c2 := b.open()
	b.send(c2, 10, 3)
	b.takeAllOnce(b.receiver(c2), 3)
}

func TestRemove_keeps_what_was_appended_beside_a_segment_never_marked(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	c := must(Open(b.ctx(), b.opts))
	defer b.close(c)
	if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, nil); err != nil {
		t.Fatal(err)
	}
	b.sendBig(c, 0, 8)
	b.leaveUnmarked(c, false)
	b.send(c, 8, 2)
	b.sendBig(c, 10, 8) // begins another segment
	page := must(c.Browse(b.ctx(), b.ch.Name, "", 100))
	var first []string
	for _, s := range page[:8] {
		first = append(first, s.Position)
	}
	if err := c.Remove(b.ctx(), b.ch.Name, first); err != nil {
		t.Fatal(err)
	}
	if page = must(c.Browse(b.ctx(), b.ch.Name, "", 100)); len(page) != 10 {
		t.Errorf("%d messages are left, want 10", len(page))
	}
}

// Then the machine loses power, and with it the mark.
func TestLog_without_its_mark_finds_the_end_beside_a_segment_never_marked(t *testing.T) {
	for _, torn := range []bool{false, true} {
		drivertest.CheckLeaks(t)
		b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
		c := b.open()
		b.sendBig(c, 0, 8)
		b.leaveUnmarked(c, torn)
		b.send(c, 8, 2)
		b.close(c)
		if err := os.Remove(b.mark()); err != nil {
			t.Fatal(err)
		}
		c = b.open()
		b.send(c, 10, 3)
		b.takeAllOnce(b.receiver(c), 13)
		b.close(c)
	}
}

// Dead letters and delayed messages are removed one by one: what is left of a
// segment then goes too.
func TestLog_whose_messages_were_removed_leaves_no_segments(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	c := must(Open(b.ctx(), b.opts))
	defer b.close(c)
	if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, nil); err != nil {
		t.Fatal(err)
	}
	b.sendBig(c, 0, 60)
	for left := 60; left > 5; {
		page := must(c.Browse(b.ctx(), b.ch.Name, "", min(7, left-5)))
		var at []string
		for _, s := range page {
			at = append(at, s.Position)
		}
		if err := c.Remove(b.ctx(), b.ch.Name, at); err != nil {
			t.Fatal(err)
		}
		left -= len(page)
	}
	if n := b.segments(); n > 2 {
		t.Errorf("%d segments for 5 messages", n)
	}
	infos := must(c.Channels(b.ctx()))
	if infos[0].Messages != 5 {
		t.Errorf("%d messages are listed, want 5", infos[0].Messages)
	}
	c2 := b.open() // with a group, which gets what is there
	r := b.receiver(c2)
	if got := ids(b.take(r, 5, true)); len(got) != 5 {
		t.Errorf("got %v", got)
	}
	b.nothing(r)
}

func TestBrowse_goes_on_while_others_remove(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	c := must(Open(b.ctx(), b.opts))
	defer b.close(c)
	if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, nil); err != nil {
		t.Fatal(err)
	}
	b.sendBig(c, 0, 20)
	page := must(c.Browse(b.ctx(), b.ch.Name, "", 20))
	var at []string
	for _, s := range page[:15] {
		at = append(at, s.Position)
	}
	removed := false
	step = func(name string) {
		if name == "browsing" && !removed {
			removed = true
			if err := c.Remove(b.ctx(), b.ch.Name, at); err != nil {
				t.Error(err)
			}
		}
	}
	defer func() { step = func(string) {} }()
	for _, after := range []string{"", at[0]} {
		removed = removed && after == ""
		page, err := c.Browse(b.ctx(), b.ch.Name, after, 20)
		if err != nil || len(page) != 5 {
			t.Errorf("after %q: %d messages, %v; want 5", after, len(page), err)
		}
	}
}

func TestLater_leaves_no_segments(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	c := b.open()
	r := b.receiver(c)
	for i := range 60 {
		m := b.message(i)
		m.Body, m.Due = make([]byte, 5<<10), time.Now().Add(30*time.Millisecond)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	b.takeAllOnce(r, 60)
	b.eventually("the segments to go", func() bool {
		return len(must(filepath.Glob(filepath.Join(b.opts.Dir, "channels", "orders", "later", "*.seg")))) <= 1
	})
}

// What an fsync that failed was for is not known to be there, and what is
// written next does not stand behind it.
func TestSend_after_a_failed_fsync_in_the_same_batch_is_received(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 2})
	c := b.open()
	b.sendBig(c, 0, 2)
	w := c.channels[b.ch.Name].log
	request := func(from, n int) *appendRequest {
		r := &appendRequest{done: make(chan struct{})}
		for i := range n {
			m := b.message(from + i)
			m.Body = make([]byte, 5<<10)
			r.at = append(r.at, len(r.buf))
			r.buf = appendRecord(r.buf, m, partitionOf(m.Key, 2))
		}
		return r
	}
	fails := 1
	w.flush = func(f *os.File) error {
		if fails--; fails >= 0 {
			return errors.New("input/output error")
		}
		return syncData(f)
	}
	first, second := request(100, 7), request(2, 7) // not one write: together they exceed a segment
	if err := w.acquire(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.commit([]*appendRequest{first, second})
	if err := w.release(); err != nil {
		t.Fatal(err)
	}
	if first.err == nil || !first.unknown || second.err != nil {
		t.Fatalf("first: %v (unknown: %v), second: %v; want only the first unknown", first.err, first.unknown, second.err)
	}
	b.sendBig(c, 9, 1)
	r := b.receiver(c)
	got := ids(b.take(r, 10, true))
	slices.Sort(got)
	if !slices.Equal(got, numbers(0, 10)) {
		t.Errorf("got %v, want 0 to 9", got)
	}
	b.nothing(r)
}

func TestOpen_makes_the_directory_survive_a_loss_of_power(t *testing.T) {
	parent := t.TempDir()
	var synced []string
	step = func(at string) { synced = append(synced, at) }
	defer func() { step = func(string) {} }()
	b := newBench(t, Options{Dir: filepath.Join(parent, "bus")})
	b.close(b.open())
	for _, dir := range []string{parent, b.opts.Dir, filepath.Join(b.opts.Dir, "channels"),
		filepath.Join(b.opts.Dir, "channels", "orders"), filepath.Join(b.opts.Dir, "channels", "orders", "log")} {
		if !slices.Contains(synced, "synced "+dir) {
			t.Errorf("%s was not synced", dir)
		}
	}
}
