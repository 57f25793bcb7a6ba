package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// Where everything is refused nothing tells whether it is the channel or the
// broker: nothing is held, and it is said at once.
func TestRelay_says_at_once_that_everything_is_refused(t *testing.T) {
	for name, err := range map[string]error{"denied": driver.ErrDenied, "unknown": driver.ErrNotFound, "away": driver.ErrRetryable} {
		t.Run(name, func(t *testing.T) {
			within(t, outbox.Options{}, func(b *bench) {
				b.broker.set(func() { b.broker.fail = func(*driver.Message) (error, bool) { return err, false } })
				b.publish("stock", "a", "1", "2")
				b.pass(time.Second)
				if st := b.stats(); st.Backlog != 2 || !strings.Contains(st.Trouble, "stock") || b.logs.count() == 0 {
					b.Errorf("stats %+v, %d log records, want the channel named", st, b.logs.count())
				}
				if all := b.stuck(); len(all) == 0 || all[0].Kind != dovetail.StuckOutbox || all[0].Count < 1 || time.Since(all[0].Since) > 2*time.Second || !strings.Contains(all[0].Err, "stock") {
					b.Errorf("stuck: %+v", all)
				}
				b.broker.set(func() { b.broker.fail = nil })
				b.want(5*time.Second, "1", "2")
				if st := b.stats(); st.Trouble != "" {
					b.Errorf("trouble %q is over", st.Trouble)
				}
				if all := b.stuck(); len(all) > 0 {
					b.Errorf("stuck: %+v", all)
				}
			})
		})
	}
}

func TestRelay_says_that_messages_are_held_until_they_are_not(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if m.ID == "big" {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		b.publish("stock", "k", "big", "follows")
		b.pass(10 * time.Minute)
		if st := b.stats(); st.Held != 2 || !strings.Contains(st.Trouble, "big") {
			b.Fatalf("stats %+v, want the two held, and said", st)
		}
		if n := b.logs.count(); n > 12 {
			b.Errorf("%d log records in ten minutes: %v", n, b.logs.records)
		}
		held, _, err := b.box.Held(b.Context(), outbox.HeldFilter{Channel: "stock", Key: "k"}, 1)
		b.must(err)
		n, err := b.box.DiscardHeld(b.Context(), held)
		b.must(err)
		if n != 1 || len(held) != 1 {
			b.Fatalf("%d discarded of %d", n, len(held))
		}
		b.want(10*time.Second, "follows")
		if st := b.stats(); st.Trouble != "" || st.Held != 0 {
			b.Errorf("stats %+v, want that it is over", st)
		}
	})
}

// A transport that never comes back from a send must not keep the outbox.
func TestRelay_that_hangs_in_a_send_leaves_the_outbox_to_another(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, release := memstore.New(), make(chan struct{})
		b := &bench{T: t, broker: &broker{caps: driver.Capabilities{Name: "stub"}}, db: db, logs: &logs{}}
		hanging := &hangs{broker: b.broker, release: release}
		b.svc = &service{name: "catalog", conn: hanging, log: discard()}
		b.box = outbox.New(b.svc, db)
		b.publish("stock", "k", "1", "2")
		b.start()
		b.pass(10 * time.Second)
		other := &service{name: "catalog", conn: &broker{caps: driver.Capabilities{Name: "stub"}}, log: discard()}
		outbox.New(other, db)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- other.components[0].Run(ctx) }()
		<-time.After(2 * time.Minute)
		if got := other.conn.(*broker).ids(); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("the other instance published %v", got)
		}
		if st := b.stats(); st.Trouble == "" {
			t.Error("it says nothing of the send that hangs")
		}
		cancel()
		b.must(<-ended)
		close(release)
		b.stop()
	})
}

// hangs is a broker that does not look at the context of a send.
type hangs struct {
	*broker
	release chan struct{}
}

func (h *hangs) Send(context.Context, []*driver.Message) error {
	<-h.release
	return errors.New("too late")
}

// A relay that does not reach the broker leaves the outbox to one that does.
func TestRelay_without_a_broker_leaves_the_outbox_to_another(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := memstore.New()
		b := &bench{T: t, broker: &broker{caps: driver.Capabilities{Name: "stub"}}, db: db, logs: &logs{}}
		b.broker.away = func() error { return driver.ErrRetryable }
		b.svc = &service{name: "catalog", conn: b.broker, log: discard()}
		b.box = outbox.New(b.svc, db)
		b.publish("stock", "k", "1", "2")
		b.start()
		b.pass(5 * time.Second)
		there := &broker{caps: driver.Capabilities{Name: "stub"}}
		other := &service{name: "catalog", conn: there, log: discard()}
		outbox.New(other, db)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- other.components[0].Run(ctx) }()
		<-time.After(time.Minute)
		if got := there.ids(); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("the other instance published %v", got)
		}
		cancel()
		b.must(<-ended)
		b.stop()
	})
}

// picky is a store that cannot hold one message.
type picky struct {
	*memstore.Store
	mu  sync.Mutex
	not string // its id; empty: it can
}

func newPicky(not string) *picky { return &picky{Store: memstore.New(), not: not} }

// holdAll has it hold every message from now on.
func (p *picky) holdAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.not = ""
}

func (p *picky) Advance(ctx context.Context, t store.Term, step store.Progress) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range step.Hold {
		if h.Message.ID == p.not {
			return fmt.Errorf("index row size exceeds the maximum: %s", h.Message.ID)
		}
	}
	return p.Store.Advance(ctx, t, step)
}

func TestRelay_publishes_beside_a_message_that_the_store_cannot_hold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newPicky("bad1")
		b := benchOn(t, db.Store, db)
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if strings.HasPrefix(m.ID, "bad") {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		b.start()
		b.publish("stock", "k", "bad1", "bad2")
		b.publish("stock", "l", "bad3")
		want := []string{}
		for i := range 50 {
			id := fmt.Sprint("good", i)
			want = append(want, id)
			b.publish("stock", "good", id)
			b.pass(time.Second)
		}
		b.want(0, want...)
		st := b.stats()
		if st.Held != 1 || !strings.Contains(st.Trouble, "bad1") && !strings.Contains(st.Trouble, "bad3") {
			b.Errorf("stats %+v, want bad3 held, and the trouble said", st)
		}
		db.holdAll()
		b.pass(time.Minute)
		b.publish("stock", "good", "last")
		b.pass(time.Minute)
		if st := b.stats(); st.Held != 3 || st.Backlog != 0 {
			b.Errorf("stats %+v, want all three held once the store takes them", st)
		}
		b.broker.set(func() { b.broker.fail = nil })
		b.pass(3 * time.Minute)
		got := b.broker.ids()
		if i, j := slices.Index(got, "bad1"), slices.Index(got, "bad2"); i < 0 || j < i || !slices.Contains(got, "bad3") {
			b.Errorf("the broker got %v", got)
		}
		b.stop()
	})
}

// A lease that a wrong clock wrote does not keep the outbox.
func TestRelay_takes_over_a_lease_of_a_wrong_clock_and_says_so(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		_, err := store.Lead(b.Context(), b.db, 0, "gone", 24*time.Hour)
		b.must(err)
		b.publish("stock", "k", "1")
		b.start()
		b.want(time.Second, "1")
		b.stop()
		if !slices.ContainsFunc(b.logs.records, func(r string) bool { return strings.Contains(r, "a clock was wrong") }) {
			b.Errorf("log %v, want that the lease was taken over", b.logs.records)
		}
	})
}

// Whoever edits waits for the relay, and the relay sends what was edited.
func TestHeld_message_that_is_being_sent_is_edited_afterwards(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if string(m.Body) == "1" {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		b.publish("stock", "k", "1", "2")
		b.pass(time.Minute)
		for range 20 { // at any time of the relay's
			held, _, err := b.box.Held(b.Context(), outbox.HeldFilter{IDs: []string{"1"}}, 0)
			b.must(err)
			m := held[0].Message.Clone()
			b.must(b.box.EditHeld(b.Context(), held[0], m))
			b.pass(777 * time.Millisecond)
		}
		held, _, err := b.box.Held(b.Context(), outbox.HeldFilter{}, 0)
		b.must(err)
		m := held[0].Message.Clone()
		m.Body = []byte("edited")
		b.must(b.box.EditHeld(b.Context(), held[0], m))
		n, err := b.box.RetryHeld(b.Context(), outbox.HeldFilter{Key: "k"})
		b.must(err)
		if n != 1 {
			b.Errorf("%d keys are due", n)
		}
		b.want(10*time.Second, "1", "2")
		if body := string(b.broker.got[0].Body); body != "edited" {
			b.Errorf("the broker got %s", body)
		}
		n, err = b.box.RetryHeld(b.Context(), outbox.HeldFilter{Channel: "nosuch"})
		b.must(err)
		if n != 0 {
			b.Errorf("%d keys of no channel are due", n)
		}
		b.must(b.box.Do(b.Context(), func(context.Context, *memstore.Tx, dovetail.Sender) error { return nil }))
	})
}
