package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// deferred is a store that refuses the commits of transactions that wrote a
// certain value, as a deferred constraint does.
type deferred struct{ *memstore.Store }

func (d deferred) Commit(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
	if v, _ := tx.Get("k13"); string(v) == "13" {
		if err := d.Rollback(ctx, tx); err != nil {
			return err
		}
		return errors.New("violates a constraint")
	}
	return d.Store.Commit(ctx, tx, w)
}

// One message of a batch fails it as a whole: it alone becomes a dead letter,
// even where each message has one attempt.
func TestBatch_that_fails_as_a_whole_goes_one_by_one(t *testing.T) {
	for _, how := range []string{"commit", "panic"} {
		t.Run(how, func(t *testing.T) {
			dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
				svc := h.Service("shop", dovetail.Options{Retry: dovetail.RetryPolicy{Attempts: 1}})
				db := deferred{memstore.New()}
				box := outbox.New(svc, db)
				svc.Declare(arrived, ranLow)
				arrived.SubscribeBatch(svc, inbox.Batch(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
					if how == "panic" && i.Count == 13 {
						panic("thirteen")
					}
					tx.Put(i.SKU, fmt.Append(nil, i.Count))
					return ranLow.Publish(ctx, out, i)
				}), dovetail.Concurrency(1))
				events := map[string]int{}
				ranLow.Subscribe(svc, func(ctx context.Context, i item) error {
					events[dovetail.DeliveryFromContext(ctx).Message.ID]++
					return nil
				}, dovetail.Concurrency(1))
				h.Start()
				var all []item
				for i := range 40 {
					all = append(all, item{fmt.Sprintf("k%d", i), i})
				}
				if err := arrived.PublishAll(t.Context(), svc, all); err != nil {
					t.Fatal(err)
				}
				h.Advance(time.Minute)
				if n := len(db.Keys()); n != 39 || len(events) != 39 {
					t.Errorf("%d effects and %d events, want 39 each", n, len(events))
				}
				if n := len(h.DeadLetters("shop")); n != 1 {
					t.Errorf("%d dead letters, want 1", n)
				}
			})
		})
	}
}
