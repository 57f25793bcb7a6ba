package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// Where a batch keeps the order of its keys, a hot key is not bound by round
// trips. One of its messages that fails is sent again alone, before the others.
func TestRelay_sends_a_key_in_batches_that_keep_its_order(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		b.broker.caps.OrderedBatch = true
		failed := false
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if m.ID == "a2" && !failed {
				failed = true
				return driver.ErrRetryable, false
			}
			return nil, false
		}
		b.publish("stock", "a", "a1", "a2", "a3", "a4")
		b.publish("stock", "b", "b1", "b2")
		b.publish("stock", "", "x", "y")
		b.start()
		b.pass(time.Second)
		b.stop()
		want := [][]string{{"a1", "a2", "a3", "a4", "b1", "b2", "x", "y"}, {"a2"}, {"a3", "a4"}}
		if fmt.Sprint(b.broker.sends) != fmt.Sprint(want) {
			b.Errorf("sends %v, want %v", b.broker.sends, want)
		}
		if st := b.stats(); st.Published != 8 || st.Backlog != 0 {
			b.Errorf("%+v", st)
		}
	})
}

// What is behind a message that is too large for the broker would be stored
// before it: a large message shares no batch with others of its key.
func TestRelay_sends_a_large_message_without_others_of_its_key(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		b.broker.caps.OrderedBatch = true
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if len(m.Body) > 1<<20 {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		large := message("a3", "stock", "a")
		large.Body = make([]byte, 2<<20)
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			return out.Send(ctx, []*driver.Message{message("a1", "stock", "a"), message("a2", "stock", "a"), large, message("a4", "stock", "a"), message("b1", "stock", "b")})
		}))
		b.start()
		b.pass(100 * time.Millisecond)
		want := [][]string{{"a1", "a2", "b1"}, {"a3"}}
		if fmt.Sprint(b.broker.sends) != fmt.Sprint(want) {
			b.Errorf("sends %v, want %v", b.broker.sends, want)
		}
		if st := b.stats(); st.Held != 2 {
			b.Errorf("%d held, want a3 and, behind it, a4", st.Held)
		}
		b.stop()
	})
}

// A pipeline keeps the order whatever the broker refuses; what the client itself
// refuses, it passes.
func TestRelay_sends_nothing_behind_a_large_message_in_a_pipeline(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		b.broker.caps.OrderedPipeline = true
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if len(m.Body) > 1<<20 {
				return driver.ErrTooLarge, false
			}
			return nil, false
		}
		large := message("a3", "stock", "a")
		large.Body = make([]byte, 2<<20)
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			return out.Send(ctx, []*driver.Message{message("a1", "stock", "a"), message("a2", "stock", "a"), large, message("a4", "stock", "a"), message("b1", "stock", "b")})
		}))
		b.start()
		b.pass(100 * time.Millisecond)
		want := [][]string{{"a1", "a2", "a3", "b1"}}
		if fmt.Sprint(b.broker.sends) != fmt.Sprint(want) {
			b.Errorf("sends %v, want %v", b.broker.sends, want)
		}
		if st := b.stats(); st.Held != 2 || st.Trouble == "" {
			b.Errorf("stats %+v, want a3 and, behind it, a4 held, and said", st)
		}
		b.stop()
	})
}
