package outbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// slow is a store that takes its time to find what is due.
type slow struct {
	*memstore.Store
	takes time.Duration
}

func (s *slow) Due(ctx context.Context, t store.Term, skip []string, l store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
	<-time.After(s.takes)
	return s.Store.Due(ctx, t, skip, l, take)
}

func (s *slow) Promote(ctx context.Context, t store.Term, most int) (int, time.Time, error) {
	<-time.After(s.takes)
	return s.Store.Promote(ctx, t, most)
}

// Who ends a relay when nothing is left has waited for what is due: a message
// that is held, and one whose time has come.
func TestStats_tell_that_a_relay_has_looked_for_what_is_due(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &slow{Store: memstore.New()}
		b := benchOn(t, db.Store, db)
		b.broker.fail = func(*driver.Message) (error, bool) { return driver.ErrTooLarge, false }
		b.start()
		b.publish("stock", "k", "held")
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			m := message("later", "stock", "l")
			m.Due = time.Now().Add(time.Hour)
			return out.Send(ctx, []*driver.Message{m})
		}))
		b.pass(time.Minute)
		if st := b.stats(); st.Held != 1 || st.Later != 1 || st.Looking {
			t.Fatalf("%+v", st)
		}
		b.stop()
		if st := b.stats(); st.Looking {
			t.Errorf("it does not lead, and is looking: %+v", st)
		}
		b.pass(2 * time.Hour)

		b.broker.set(func() { b.broker.fail = nil })
		db.takes = 3 * time.Second
		b.start()
		defer b.stop()
		for {
			b.pass(10 * time.Millisecond)
			if st := b.stats(); st.Backlog == 0 && st.Leading > 0 && !st.Looking {
				break
			}
		}
		if got := b.broker.ids(); len(got) != 2 {
			t.Errorf("nothing is left to be published, and the broker got %v", got)
		}
	})
}
