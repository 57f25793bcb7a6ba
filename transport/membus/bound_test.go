package membus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// fixture is a bus with one point-to-point channel and its group, and an open
// receiver of it.
type fixture struct {
	*testing.T
	c  *Conn
	ch driver.Channel
	s  driver.Subscription
}

func setup(t *testing.T, o Options) fixture {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{t, b.Connect(), driver.Channel{Name: "orders"}, driver.Subscription{}}
	f.s = driver.Subscription{Channel: f.ch, Group: "worker", Instance: "one", Window: 100}
	if err := f.c.Provision(t.Context(), []driver.Channel{f.ch}, []driver.Subscription{f.s}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.c.Close(context.Background()) })
	return f
}

func (f fixture) open() driver.Receiver {
	f.Helper()
	r, err := f.c.OpenReceiver(f.Context(), f.s)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f fixture) messages(n, size int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Channel: f.ch.Name, ID: fmt.Sprint(i), Key: fmt.Sprint("k", i%3), Body: make([]byte, size)}
	}
	return ms
}

func (f fixture) send(ms ...*driver.Message) {
	f.Helper()
	if err := f.c.Send(f.Context(), ms); err != nil {
		f.Fatal(err)
	}
}

func (f fixture) receive(r driver.Receiver, max int) []*driver.Delivery {
	f.Helper()
	ds, err := r.Receive(f.Context(), max)
	if err != nil {
		f.Fatal(err)
	}
	return ds
}

func (f fixture) settle(r driver.Receiver, o driver.Outcome, after time.Duration, ds ...*driver.Delivery) {
	f.Helper()
	for _, d := range ds {
		if err := r.Settle(f.Context(), []driver.Settlement{{Delivery: d, Outcome: o, After: after}}); err != nil {
			f.Fatal(err)
		}
	}
}

func TestSend_waits_while_the_channel_is_full(t *testing.T) {
	for name, o := range map[string]Options{"messages": {Messages: 10}, "bytes": {Bytes: 10_000}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := setup(t, o)
				r := f.open()
				sent := make(chan error, 1)
				go func() { sent <- f.c.Send(t.Context(), f.messages(25, 950)) }()
				synctest.Wait()
				select {
				case err := <-sent:
					t.Fatalf("25 messages fitted into room for 10: %v", err)
				default:
				}
				for got := 0; got < 25; {
					ds := f.receive(r, 7)
					got += len(ds)
					f.settle(r, driver.Ack, 0, ds...)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestSend_to_a_full_channel_ends_and_names_the_group(t *testing.T) {
	for patience, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Minute: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := setup(t, Options{Messages: 10})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			err := f.c.Send(ctx, f.messages(12, 10))
			var se *driver.SendError
			if !errors.As(err, &se) || len(se.Failures) != 2 || se.Failures[0].Index != 10 || se.Failures[0].Unknown {
				t.Fatalf("got %v, want messages 10 and 11 not sent", err)
			}
			if time.Since(began) != want || f.c.Classify(err) != driver.Retryable ||
				!strings.Contains(err.Error(), "channel orders is full") || !strings.Contains(err.Error(), "group worker has not settled 10") {
				t.Fatalf("after %v, with a context of %v: %v", time.Since(began), patience, err)
			}
		})
	}
}

// A handler that sends to the channel that it consumes, with a context that has
// no end, does not wait for itself for ever.
func TestSend_by_a_consumer_to_its_own_full_channel_ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, Options{Messages: 10})
		r := f.open()
		f.send(f.messages(10, 10)...)
		ds := f.receive(r, 4)
		if err := f.c.Send(context.Background(), f.messages(1, 10)); f.c.Classify(err) != driver.Retryable {
			t.Fatalf("got %v, want a retryable error", err)
		}
		f.settle(r, driver.Ack, 0, ds...)
		f.send(f.messages(1, 10)...)
	})
}

func TestSend_to_a_full_channel_does_not_hold_up_another(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, Options{Messages: 5})
		other := driver.Channel{Name: "other"}
		s := driver.Subscription{Channel: other, Group: "worker", Instance: "one", Window: 10}
		if err := f.c.Provision(t.Context(), []driver.Channel{other}, []driver.Subscription{s}); err != nil {
			t.Fatal(err)
		}
		ms := append(f.messages(8, 10), &driver.Message{Channel: "other", ID: "through"})
		done := make(chan error)
		go func() { done <- f.c.Send(t.Context(), ms) }()
		r, err := f.c.OpenReceiver(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if ds := f.receive(r, 1); ds[0].Message.ID != "through" {
			t.Fatalf("got %s", ds[0].Message.ID)
		}
		f.c.Close(t.Context()) // ends the sender that waits
		if err := <-done; !errors.Is(err, driver.ErrClosed) {
			t.Fatalf("got %v, want ErrClosed", err)
		}
	})
}

func TestSend_that_waits_is_told_when_its_channel_is_removed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, Options{Messages: 5})
		done := make(chan error)
		go func() { done <- f.c.Send(t.Context(), f.messages(8, 10)) }()
		synctest.Wait()
		if err := f.c.RemoveChannel(t.Context(), f.ch.Name); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, driver.ErrNotFound) {
			t.Fatalf("got %v, want ErrNotFound", err)
		}
	})
}

func TestDelay_follows_the_clock_of_a_synctest_bubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, Options{})
		began := time.Now()
		ms := f.messages(3, 10)
		ms[0].Due = began.Add(3 * time.Hour)
		ms[1].Due = began.Add(time.Hour)
		if err := f.c.Send(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
		r := f.open()
		for _, want := range []struct {
			id string
			at time.Duration
		}{{"2", 0}, {"1", time.Hour}, {"0", 3 * time.Hour}} {
			d := f.receive(r, 10)[0]
			if d.Message.ID != want.id || time.Since(began) != want.at {
				t.Fatalf("got %s after %v, want %s after %v", d.Message.ID, time.Since(began), want.id, want.at)
			}
			f.settle(r, driver.Ack, 0, d)
		}
		f.c.Send(t.Context(), f.messages(1, 10))
		d := f.receive(r, 1)[0]
		f.settle(r, driver.Retry, time.Minute, d)
		again := time.Now()
		if d := f.receive(r, 1)[0]; d.Attempt != 2 || time.Since(again) != time.Minute {
			t.Fatalf("attempt %d came after %v", d.Attempt, time.Since(again))
		}
	})
}

func TestChannel_forgets_what_is_done_with_behind_one_that_is_not(t *testing.T) {
	f := setup(t, Options{})
	r := f.open()
	if err := f.c.Send(t.Context(), f.messages(1, 10)); err != nil {
		t.Fatal(err)
	}
	f.receive(r, 1) // never settled
	for range 200 {
		if err := f.c.Send(t.Context(), f.messages(99, 10)); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < 99; {
			ds := f.receive(r, 99)
			got += len(ds)
			f.settle(r, driver.Ack, 0, ds...)
		}
	}
	ch := f.c.bus.lookup(f.ch.Name)
	if n := len(ch.log) - ch.head; n > 300 || ch.live != 1 {
		t.Fatalf("the log holds %d messages with %d at rest", n, ch.live)
	}
	for _, p := range ch.groups[0].parts {
		if len(p.q.ring) > 1024 {
			t.Fatalf("a deque keeps %d places", len(p.q.ring))
		}
	}
}

func TestTransient_channel_keeps_nothing_for_those_who_do_not_listen(t *testing.T) {
	f := setup(t, Options{Messages: 5})
	ch := driver.Channel{Name: "replies", Transient: true}
	s := driver.Subscription{Channel: ch, Group: "caller", Instance: "one", Window: 10}
	if err := f.c.Provision(t.Context(), []driver.Channel{ch}, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := f.c.Send(t.Context(), []*driver.Message{{Channel: "replies", ID: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.c.Send(t.Context(), []*driver.Message{{Channel: "replies", ID: "heard"}}); err != nil {
		t.Fatal(err)
	}
	if ds := f.receive(r, 10); len(ds) != 1 || ds[0].Message.ID != "heard" {
		t.Fatalf("got %d, the first %s", len(ds), ds[0].Message.ID)
	}
}

func TestProvision_refuses_a_second_group_on_a_point_to_point_channel(t *testing.T) {
	f := setup(t, Options{})
	second := f.s
	second.Group = "second"
	err := f.c.Provision(t.Context(), nil, []driver.Subscription{second})
	if !errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), "worker") {
		t.Fatalf("got %v, want ErrConflict that names the group", err)
	}
	fresh := driver.Channel{Name: "fresh"}
	a, b := driver.Subscription{Channel: fresh, Group: "a"}, driver.Subscription{Channel: fresh, Group: "b"}
	if err := f.c.Provision(t.Context(), []driver.Channel{fresh}, []driver.Subscription{a, b}); !errors.Is(err, driver.ErrConflict) {
		t.Fatalf("two groups at once: %v, want ErrConflict", err)
	}
	if f.c.bus.lookup("fresh") != nil {
		t.Fatal("a refused Provision made a channel")
	}
}

func TestOptions_that_contradict_each_other_are_refused(t *testing.T) {
	for _, o := range []Options{{Messages: -1}, {Partitions: 5000}, {Bytes: 100, MessageBytes: 200}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	for _, url := range []string{"mem:a/b", "mem:Upper", "mem:a?messages=-1", "mem:a?what=1", "mem://user@host", "mem:?partitions=x"} {
		if c, err := driver.Open(t.Context(), url); err == nil {
			c.Close(t.Context())
			t.Errorf("%s was opened", url)
		}
	}
}

func TestOpen_shares_a_name_until_its_last_connection_closes(t *testing.T) {
	open := func(url string) driver.Conn {
		t.Helper()
		c, err := driver.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := open("mem:shared-name?messages=7"), open("mem://shared-name")
	if a.(*Conn).bus != b.(*Conn).bus {
		t.Fatal("one name, two buses")
	}
	if _, err := driver.Open(t.Context(), "mem:shared-name?messages=8"); !errors.Is(err, driver.ErrConflict) {
		t.Fatalf("other parameters: %v, want ErrConflict", err)
	}
	old := a.(*Conn).bus
	a.Close(t.Context())
	a.Close(t.Context())
	if c := open("mem:shared-name"); c.(*Conn).bus != old {
		t.Fatal("the bus was lost while a connection was open")
	} else {
		c.Close(t.Context())
	}
	b.Close(t.Context())
	c, p, q := open("mem:shared-name"), open("mem:"), open("mem:")
	if c.(*Conn).bus == old || p.(*Conn).bus == q.(*Conn).bus {
		t.Fatal("a bus was shared that should not be")
	}
	for _, c := range []driver.Conn{c, p, q} {
		c.Close(t.Context())
	}
}

func TestDelayed_message_comes_before_what_was_sent_after_it_was_due(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := setup(t, Options{})
		f.s.Window = 1
		r := f.open()
		send := func(id string, due time.Time) {
			m := &driver.Message{Channel: f.ch.Name, ID: id, Key: "k", Due: due}
			if err := f.c.Send(t.Context(), []*driver.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
		send("first", time.Time{})
		ds := f.receive(r, 1) // and is busy with it
		send("delayed", time.Now().Add(time.Second))
		<-time.After(time.Minute)
		send("last", time.Time{})
		f.settle(r, driver.Ack, 0, ds...)
		for _, want := range []string{"delayed", "last"} {
			ds := f.receive(r, 1)
			if ds[0].Message.ID != want {
				t.Errorf("got %s, want %s", ds[0].Message.ID, want)
			}
			f.settle(r, driver.Ack, 0, ds...)
		}
	})
}

// What an instance that is away has not heard holds up no sender: its group ends
// when the room is needed, or its connection is closed.
func TestBroadcast_group_without_a_receiver_holds_up_no_sender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{Messages: 10})
		if err != nil {
			t.Fatal(err)
		}
		c, away := b.Connect(), b.Connect()
		defer c.Close(t.Context())
		ch := driver.Channel{Name: "prices", Kind: driver.PublishSubscribe}
		if err := c.Provision(t.Context(), []driver.Channel{ch}, nil); err != nil {
			t.Fatal(err)
		}
		s := driver.Subscription{Channel: ch, Group: "cache", Instance: "one", Broadcast: true, Window: 10}
		listen := func(conn *Conn, s driver.Subscription) {
			r, err := conn.OpenReceiver(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		listen(c, s)
		for i := range 25 {
			if err := c.Send(t.Context(), []*driver.Message{{Channel: ch.Name, ID: fmt.Sprint(i)}}); err != nil {
				t.Fatal(err)
			}
		}
		s.Resume = true
		if _, err := c.OpenReceiver(t.Context(), s); c.Classify(err) != driver.PositionLost {
			t.Fatalf("resumed after its channel was full: %v, want ErrPositionLost", err)
		}
		s.Resume = false
		listen(away, s)
		if err := away.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if infos, err := c.Channels(t.Context()); err != nil || len(infos[0].Groups) != 0 {
			t.Fatalf("%+v, %v; want no group of a connection that was closed", infos, err)
		}
	})
}

// A key's partition does not hang on the process: what is written down of one,
// in a test or a log, holds for all.
func TestKey_is_in_the_partition_that_the_driver_says(t *testing.T) {
	f := setup(t, Options{Partitions: 8})
	r := f.open()
	for i := range 50 {
		key := fmt.Sprint("key-", i)
		f.send(&driver.Message{Channel: f.ch.Name, ID: fmt.Sprint(i), Key: key})
		d := f.receive(r, 1)[0]
		if want := driver.PartitionOf(key, 8); d.Partition != want {
			t.Fatalf("%s is in partition %d, want %d", key, d.Partition, want)
		}
		f.settle(r, driver.Ack, 0, d)
	}
}
