package outbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
)

// What the store does not take for a while is set aside once it does, though
// nothing else is published.
func TestRelay_sets_aside_what_the_store_did_not_take_though_nothing_else_is_published(t *testing.T) {
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
		b.publish("stock", "good", "good")
		b.pass(time.Minute)
		db.holdAll()
		b.broker.set(func() { b.broker.fail = nil })
		b.pass(5 * time.Minute)
		if got := b.broker.ids(); !slices.Contains(got, "bad1") || !slices.Contains(got, "bad2") {
			b.Errorf("the broker got %v; %+v", got, b.stats())
		}
		b.stop()
	})
}

// What the store does not take is kept in memory up to a bound. Then the relay
// reads no more, and goes on as soon as the store takes it.
func TestRelay_keeps_a_bounded_number_of_messages_that_the_store_does_not_take(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newPicky("bad0")
		b := benchOn(t, db.Store, db)
		b.svc.components = nil
		b.box = outbox.New(b.svc, db, outbox.Options{BatchBytes: 1 << 10})
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if strings.HasPrefix(m.ID, "bad") {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		b.start()
		var bad []string
		for i := range 100 { // with what each takes beside its text, more than eight times BatchBytes
			bad = append(bad, fmt.Sprint("bad", i))
		}
		b.publish("stock", "k", bad[0])
		b.publish("stock", "l", "first")
		b.pass(time.Minute)
		b.publish("stock", "k", bad[1:]...)
		b.pass(time.Second)
		b.publish("stock", "l", "last")
		b.want(time.Minute, "first")
		if st := b.stats(); !strings.Contains(st.Trouble, "bad0") {
			b.Errorf("stats %+v, want the trouble said", st)
		}
		db.holdAll()
		b.want(time.Minute, "first", "last")
		b.broker.set(func() { b.broker.fail = nil })
		b.want(5*time.Minute, append([]string{"first", "last"}, bad...)...)
		b.stop()
	})
}

// What follows such a message in its key waits with it, though the store and the
// broker would take it.
func TestRelay_keeps_the_order_of_a_key_behind_a_message_that_the_store_does_not_take(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newPicky("bad")
		b := benchOn(t, db.Store, db)
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if m.ID == "bad" {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		b.start()
		b.publish("stock", "k", "bad")
		b.publish("stock", "l", "first")
		b.pass(time.Minute)
		b.publish("stock", "k", "behind")
		b.publish("stock", "l", "last")
		b.want(time.Minute, "first", "last")
		db.holdAll()
		b.want(time.Minute, "first", "last")
		b.broker.set(func() { b.broker.fail = nil })
		b.want(5*time.Minute, "first", "last", "bad", "behind")
		b.stop()
	})
}
