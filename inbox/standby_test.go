package inbox_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// unsynced is a store whose commits wait for a standby: while that is away, they
// are there for all to see, and their callers are told nothing.
type unsynced struct {
	*memstore.Store
	away atomic.Bool
}

func (u *unsynced) Commit(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
	err := u.Store.Commit(ctx, tx, w)
	if err == nil && u.away.Load() {
		<-time.After(30 * time.Second)
		return store.ErrUnknown
	}
	return err
}

// A message whose row is there was handled. That this cannot be settled yet is no
// attempt at it, and must not make it a dead letter.
func TestBatch_that_was_handled_waits_until_a_commit_goes_through(t *testing.T) {
	for name, n := range map[string]int{"one": 1, "several": 20} {
		t.Run(name, func(t *testing.T) {
			dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
				log := &lines{}
				svc := h.Service("shop", dovetail.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
				db := &unsynced{Store: memstore.New()}
				box := outbox.New(svc, db, outbox.Options{NoRelay: true})
				svc.Declare(arrived)
				var handled atomic.Int64
				arrived.SubscribeBatch(svc, inbox.Batch(box, func(context.Context, *memstore.Tx, dovetail.Sender, item) error {
					handled.Add(1)
					return nil
				}), dovetail.Retry(dovetail.RetryPolicy{Attempts: 2}))
				h.Start()
				db.away.Store(true)
				var all []item
				for i := range n {
					all = append(all, item{"tea", i})
				}
				if err := arrived.PublishAll(t.Context(), svc, all); err != nil {
					t.Fatal(err)
				}
				h.Advance(time.Hour)
				db.away.Store(false)
				h.Advance(time.Minute)
				if handled.Load() != int64(n) || len(h.DeadLetters("shop")) > 0 {
					t.Errorf("%d of %d were handled, %d are dead letters", handled.Load(), n, len(h.DeadLetters("shop")))
				}
				if all := log.all(); len(all) != 2 || !strings.Contains(all[0], "outage") || !strings.Contains(all[1], "outage-over") {
					t.Errorf("the log has %d lines, want one when the outage begins and one when it is over:\n%s", len(all), strings.Join(all[:min(10, len(all))], "\n"))
				}
			})
		})
	}
}

// The last attempt's commit may have happened although it was not answered.
func TestBatch_whose_last_commit_is_unknown_looks_at_the_row(t *testing.T) {
	within(t, func(s *shop) {
		arrived.SubscribeBatch(s.svc, inbox.Batch(s.box, func(context.Context, *memstore.Tx, dovetail.Sender, item) error {
			s.ran()
			return nil
		}), dovetail.Retry(dovetail.RetryPolicy{Attempts: 1}))
		s.h.Start()
		s.db.commit = func(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
			s.must(s.db.Store.Commit(ctx, tx, w))
			return store.ErrUnknown
		}
		s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 1}))
		s.h.Advance(time.Minute)
		if n := len(s.h.DeadLetters("shop")); s.runs != 1 || n != 0 {
			s.Errorf("handled %d times, %d dead letters, want 1 and none", s.runs, n)
		}
	})
}
