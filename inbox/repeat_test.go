package inbox_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// A handler that does a transaction again, after it failed in whatever way,
// sends the same ids, and never those of what it has sent for good.
func TestDo_that_is_done_again_within_an_attempt_sends_the_same_ids(t *testing.T) {
	boom := errors.New("boom")
	within(t, func(s *shop) {
		var first, second, nested []string
		sent := func(out dovetail.Sender, into *[]string) dovetail.Sender { return &noting{out, into} }
		arrived.Subscribe(s.svc, func(ctx context.Context, i item) error {
			s.must(s.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				return ranLow.Publish(ctx, out, i) // for good, and equal to those below
			}))
			for n, into := range []*[]string{&first, &second} {
				err := s.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					for range 2 {
						s.must(ranLow.Publish(ctx, sent(out, into), i))
					}
					if n == 0 {
						return boom
					}
					return nil
				})
				if n == 0 && !errors.Is(err, boom) || n == 1 && err != nil {
					s.Errorf("%d: %v", n, err)
				}
			}
			return s.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				for range 2 { // the first part is undone
					err := s.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
						s.must(ranLow.Publish(ctx, sent(out, &nested), i))
						if len(nested) == 1 {
							return boom
						}
						return nil
					})
					if len(nested) == 2 && err != nil {
						return err
					}
				}
				return nil
			})
		})
		s.h.Start()
		s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 1}))
		s.h.Advance(time.Minute)
		if len(first) != 2 || !slices.Equal(first, second) || first[0] == first[1] {
			s.Errorf("sent %v and then %v", first, second)
		}
		if len(nested) != 2 || nested[0] != nested[1] {
			s.Errorf("sent %v in a part that was done again", nested)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if all := slices.Compact(slices.Sorted(slices.Values(s.low))); len(all) != 4 || len(s.low) != 4 {
			s.Errorf("%d events with %d ids, want 4", len(s.low), len(all))
		}
	})
}

// noting is a sender that notes the ids that it is given.
type noting struct {
	dovetail.Sender
	ids *[]string
}

func (n *noting) Send(ctx context.Context, messages []*driver.Message) error {
	for _, m := range messages {
		*n.ids = append(*n.ids, m.ID)
	}
	return n.Sender.Send(ctx, messages)
}

// What a copy's row says may not be safe yet: its message is settled only once the
// transaction that saw it commits.
func TestCopy_is_settled_only_by_a_commit(t *testing.T) {
	within(t, func(s *shop) {
		runs, tries := 0, 0
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(context.Context, *memstore.Tx, dovetail.Sender, item) error {
			runs++
			return nil
		}))
		s.h.Start()
		for range 2 {
			s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 1}, dovetail.ID("1")))
			s.h.Advance(time.Minute)
			s.db.mu.Lock()
			s.db.commit = func(ctx context.Context, tx *memstore.Tx, _ store.Writes) error {
				tries++
				return errors.Join(store.ErrUnknown, s.db.Rollback(ctx, tx))
			}
			s.db.mu.Unlock()
		}
		if runs != 1 || tries != 1 || len(s.h.DeadLetters("shop")) > 0 {
			s.Errorf("handled %d times, %d commits of the copy failed, %d dead letters; want 1, 1 and none", runs, tries, len(s.h.DeadLetters("shop")))
		}
	})
}
