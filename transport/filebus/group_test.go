package filebus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

func (r *receiver) owned() (owned, revoking int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		if p != nil {
			owned++
			if p.revoking {
				revoking++
			}
		}
	}
	return owned, revoking
}

func (b *bench) eventually(what string, done func() bool) {
	b.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			b.Fatalf("waited in vain for %s", what)
		}
	}
}

func (b *bench) segments() int {
	paths, err := filepath.Glob(filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log", "*.seg"))
	if err != nil {
		b.Fatal(err)
	}
	return len(paths)
}

func TestGroup_shares_partitions_as_members_come_and_go(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Partitions: 8})
	shares := func(rs []*receiver, want ...int) func() bool {
		return func() bool {
			for i, r := range rs {
				if n, _ := r.owned(); n != want[i] {
					return false
				}
			}
			return true
		}
	}
	var rs []*receiver
	var cs []*Conn
	join := func() {
		c := b.open()
		cs, rs = append(cs, c), append(rs, b.receiver(c))
	}
	join()
	b.eventually("one to have all", shares(rs, 8))
	join()
	b.eventually("two to have half each", shares(rs, 4, 4))
	join()
	b.eventually("three to have as much as goes", shares(rs, 3, 3, 2))
	if err := cs[0].crash(); err != nil {
		t.Fatal(err)
	}
	b.eventually("two to have half each again", shares(rs[1:], 4, 4))
	if err := rs[1].Close(b.ctx()); err != nil {
		t.Fatal(err)
	}
	b.eventually("the last to have all", shares(rs[2:], 8))
	for range 8 {
		join()
	}
	b.eventually("each of nine but one to have one", shares(rs[2:], 1, 1, 1, 1, 1, 1, 1, 1, 0))
}

// A partition with deliveries in hand is announced, and goes when they are
// settled, or when the core releases it.
func TestGroup_hands_over_only_what_is_settled_or_released(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Partitions: 2})
	c1, c2 := b.open(), b.open()
	b.send(c1, 0, 40)
	r1 := b.receiver(c1)
	inHand := b.take(r1, 40, false)
	r2 := b.receiver(c2)
	ids := <-r1.Revoked()
	if len(ids) != 1 {
		t.Fatalf("%v were revoked, want one of two", ids)
	}
	b.nothing(r2)
	for _, d := range inHand {
		if d.Partition == ids[0] {
			b.settle(r1, driver.Ack, d)
		}
	}
	b.eventually("the other to have it", func() bool { n, _ := r2.owned(); return n == 1 })
	b.nothing(r2)

	// The other way round: the second joins while the first has much in hand,
	// and the core gives up what it has not begun with.
	if err := r2.Close(b.ctx()); err != nil {
		t.Fatal(err)
	}
	b.eventually("the first to have both", func() bool { n, _ := r1.owned(); return n == 2 })
	b.send(c1, 40, 40)
	b.take(r1, 40, false)
	r2 = b.receiver(c2)
	ids = <-r1.Revoked()
	if err := r1.Release(b.ctx(), ids); err != nil {
		t.Fatal(err)
	}
	d := b.take(r2, 1, true)[0]
	if d.Attempt != 2 || d.Partition != ids[0] {
		t.Errorf("got %s as attempt %d of partition %d, want attempt 2 of %d", d.Message.ID, d.Attempt, d.Partition, ids[0])
	}
}

// What many groups have passed is deleted, and what one of them needs is not.
func TestRetention_deletes_what_every_group_has_passed(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10})
	b.ch.Kind = driver.PublishSubscribe
	b.sub.Channel = b.ch
	c := b.open()
	slow := b.sub
	slow.Group = "slow"
	if err := c.Provision(b.ctx(), nil, []driver.Subscription{slow}); err != nil {
		t.Fatal(err)
	}
	const n, size = 100, 8 << 10
	for i := range n {
		m := b.message(i)
		m.Body = make([]byte, size)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	all := b.segments()
	if all < 10 {
		t.Fatalf("%d segments, want more", all)
	}
	b.take(b.receiver(c), n, true)
	sr, err := c.OpenReceiver(b.ctx(), slow)
	if err != nil {
		t.Fatal(err)
	}
	got := b.take(sr, n, false)
	b.settle(sr, driver.Ack, got[1:]...)
	c.channels[b.ch.Name].retain()
	if now := b.segments(); now != all {
		t.Fatalf("%d of %d segments are left, but the first message of all is unsettled", now, all)
	}
	b.settle(sr, driver.Ack, got[0])
	b.eventually("all but the last segment to be deleted", func() bool {
		c.channels[b.ch.Name].retain()
		return b.segments() == 1
	})
}

func TestRetention_without_groups_keeps_queues_and_not_topics(t *testing.T) {
	drivertest.CheckLeaks(t)
	for kind, keeps := range map[driver.ChannelKind]bool{driver.PointToPoint: true, driver.PublishSubscribe: false} {
		b := newBench(t, Options{SegmentBytes: 64 << 10, Sync: SyncOS})
		c, err := Open(b.ctx(), b.opts)
		if err != nil {
			t.Fatal(err)
		}
		b.ch.Kind = kind
		if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, nil); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			m := b.message(i)
			m.Body = make([]byte, 8<<10)
			if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
		b.close(c)
		if got := b.segments(); keeps != (got > 5) {
			t.Errorf("%v: %d segments are left", kind, got)
		}
	}
}

// A broadcast instance that died does not hold segments for ever.
func TestBroadcast_group_of_the_dead_expires(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Sync: SyncOS, Expire: 100 * time.Millisecond})
	b.ch.Kind = driver.PublishSubscribe
	b.sub.Channel = b.ch
	c, victim := b.open(), b.open()
	s := b.sub
	s.Broadcast, s.Group, s.Instance = true, strings.Repeat("g", 200), strings.Repeat("i", 200)
	if _, err := victim.OpenReceiver(b.ctx(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenReceiver(b.ctx(), s); !errors.Is(err, driver.ErrConflict) {
		t.Errorf("a second receiver of one instance: %v, want ErrConflict", err)
	}
	if err := victim.crash(); err != nil {
		t.Fatal(err)
	}
	r := b.receiver(c)
	for i := range 60 {
		m := b.message(i)
		m.Body = make([]byte, 8<<10)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	b.take(r, 60, true)
	b.eventually("the segments to be deleted", func() bool {
		c.channels[b.ch.Name].retain()
		return b.segments() == 1
	})
	infos, err := c.Channels(b.ctx())
	if err != nil || len(infos) != 1 || len(infos[0].Groups) != 1 {
		t.Errorf("channels are %+v, %v; want one with one group", infos, err)
	}
}

// A broadcast instance whose connection broke goes on over another, from what it
// had in hand.
func TestBroadcast_resumes_over_another_connection(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Sync: SyncOS})
	b.ch.Kind = driver.PublishSubscribe
	b.sub.Channel = b.ch
	c, victim := b.open(), b.open()
	s := b.sub
	s.Broadcast, s.Group = true, "cache"
	r, err := victim.OpenReceiver(b.ctx(), s)
	if err != nil {
		t.Fatal(err)
	}
	b.send(c, 0, 3)
	b.settle(r, driver.Ack, b.take(r, 3, false)[0])
	if err := victim.crash(); err != nil {
		t.Fatal(err)
	}
	b.send(c, 3, 1)
	s.Resume = true
	if r, err = c.OpenReceiver(b.ctx(), s); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"1": 2, "2": 2, "3": 1} // attempts
	for _, d := range b.take(r, 3, true) {
		if want[d.Message.ID] != d.Attempt {
			t.Errorf("got %s at attempt %d, want %v", d.Message.ID, d.Attempt, want)
		}
		delete(want, d.Message.ID)
	}
	b.nothing(r)
}

// However many messages wait to be retried, what is kept of them is bounded,
// and the partition goes on once they are settled.
func TestReceiver_stalls_a_partition_that_has_too_much_open(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Partitions: 1, Sync: SyncOS})
	b.sub.Window = 2 * maxOpen
	c := b.open()
	const n = maxOpen + 500
	for i := 0; i < n; i += 500 {
		b.send(c, i, min(500, n-i))
	}
	r := b.receiver(c)
	got := b.take(r, maxOpen, false)
	b.nothing(r)
	if n, err := r.Backlog(b.ctx()); n != 500 || err != nil {
		t.Errorf("backlog %d, %v; want 500", n, err)
	}
	b.settle(r, driver.Ack, got...)
	for i, d := range b.take(r, 500, true) {
		if d.Message.ID != strconv.Itoa(maxOpen+i) {
			t.Fatalf("got %s, want %d", d.Message.ID, maxOpen+i)
		}
	}
	b.nothing(r)
}

// Removing dead letters gives their space back.
func TestRemove_empties_segments(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Sync: SyncOS})
	c, err := Open(b.ctx(), b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close(c)
	if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, nil); err != nil {
		t.Fatal(err)
	}
	const n = 60
	for i := range n {
		m := b.message(i)
		m.Body = make([]byte, 8<<10)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	after, left := "", n
	for left > 1 {
		page, err := c.Browse(b.ctx(), b.ch.Name, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		var at []string
		for _, st := range page[:min(len(page), left-1)] {
			at = append(at, st.Position)
		}
		if err := c.Remove(b.ctx(), b.ch.Name, at); err != nil {
			t.Fatal(err)
		}
		left -= len(at)
		after = at[len(at)-1]
		infos, err := c.Channels(b.ctx())
		if err != nil || infos[0].Messages != int64(left) {
			t.Fatalf("%+v, %v; want %d messages", infos, err, left)
		}
	}
	var size int64
	paths, _ := filepath.Glob(filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log", "*.seg"))
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			size += st.Size()
		}
	}
	if size > 64<<10+int64(len(paths))*segHeader {
		t.Errorf("%d bytes are left for one message", size)
	}
	// A group that comes now reads over the empty segments without complaint.
	if err := c.Provision(b.ctx(), nil, []driver.Subscription{b.sub}); err != nil {
		t.Fatal(err)
	}
	r := b.receiver(c)
	if got := b.take(r, 1, true)[0]; got.Fault != nil || got.Message.ID != strconv.Itoa(n-1) {
		t.Errorf("got %s, fault %v", got.Message.ID, got.Fault)
	}
	b.nothing(r)
}

// A stopped process that holds the append lock does not hang the others, and is
// waited for in order otherwise.
func TestSend_while_another_process_holds_the_lock_waits_for_its_context(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{})
	c := b.open()
	b.send(c, 0, 1)
	holder, err := os.OpenFile(b.mark(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := tryLock(holder); !ok {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = c.Send(ctx, []*driver.Message{b.message(1)})
	var se *driver.SendError
	if !errors.As(err, &se) || !se.Failures[0].Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("send: %v, want its outcome unknown at the deadline", err)
	}
	// A second one is still in the queue, and is taken back.
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err = c.Send(ctx, []*driver.Message{b.message(2)}); !errors.As(err, &se) || se.Failures[0].Unknown {
		t.Fatalf("send: %v, want it not sent", err)
	}
	holder.Close()
	b.send(c, 3, 1)
	r := b.receiver(c)
	if got := fmt.Sprint(ids(b.take(r, 3, true))); got != "[0 1 3]" {
		t.Errorf("got %s, want [0 1 3]", got)
	}
}

// Where the kernel does not tell what other processes write, receivers look.
func TestReceiver_that_must_poll_hears_of_what_others_send(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{})
	sender, c := b.open(), b.open()
	c.watch.remove(&c.channels[b.ch.Name].log.appends)
	r := b.receiver(c)
	b.nothing(r)
	for i := range 5 {
		began := time.Now()
		b.send(sender, i, 1)
		b.take(r, 1, true)
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
	}
}
