package outbox_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
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
