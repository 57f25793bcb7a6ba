package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// outcomes changes every settlement.
func outcomes(change func(*driver.Settlement)) func(driver.Receiver, context.Context, []driver.Settlement) error {
	return func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
		changed := make([]driver.Settlement, len(ss))
		for i, s := range ss {
			change(&s)
			changed[i] = s
		}
		return r.Settle(ctx, changed)
	}
}

// hands are the deliveries that somebody has, by message; a mutant that settles
// too much knows them.
type hands struct {
	mu sync.Mutex
	of map[string]*driver.Delivery
	r  map[string]driver.Receiver
}

var inHands = hands{of: map[string]*driver.Delivery{}, r: map[string]driver.Receiver{}}

func (h *hands) receive(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
	ds, err := r.Receive(ctx, n)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range ds {
		id := d.Message.Channel + "|" + d.Message.ID
		h.of[id], h.r[id] = d, r
	}
	return ds, err
}

var settleMutants = map[string]mutant{
	"acknowledges the batch with its first": {by: "Settle_of_a_part_leaves_the_rest_unsettled", receive: inHands.receive,
		settle: func(r driver.Receiver, ctx context.Context, _ []driver.Settlement) error {
			inHands.mu.Lock()
			defer inHands.mu.Unlock()
			var ss []driver.Settlement
			for id, d := range inHands.of {
				if inHands.r[id] == r {
					ss = append(ss, driver.Settlement{Delivery: d})
				}
			}
			return r.Settle(ctx, ss)
		}},
	"lets anybody settle what another has": {by: "Settle_by_another_receiver_is_no_error", receive: inHands.receive,
		settle: func(_ driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			inHands.mu.Lock()
			defer inHands.mu.Unlock()
			var err error
			for _, s := range ss {
				id := s.Delivery.Message.Channel + "|" + s.Delivery.Message.ID
				s.Delivery = inHands.of[id]
				if err = inHands.r[id].Settle(ctx, []driver.Settlement{s}); err != nil {
					return err
				}
			}
			return err
		}},
	"names nothing when something came too late": {by: "Settle_names_what_came_too_late_and_takes_the_rest",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			err := r.Settle(ctx, ss)
			if stale := (*driver.StaleError)(nil); errors.As(err, &stale) {
				stale.Indexes = nil
			}
			return err
		}},
	"takes nothing when something came too late": {by: "Settle_names_what_came_too_late_and_takes_the_rest",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			for i, s := range ss { // which of them are, a settlement of nothing else tells
				if err := r.Settle(ctx, []driver.Settlement{s}); err != nil {
					return &driver.StaleError{Indexes: []int{i}}
				}
			}
			return nil
		}},
	"does not wait before a retry": {by: "Settle_Retry_waits_as_long_as_asked", settle: outcomes(func(s *driver.Settlement) { s.After = 0 })},
	"takes a rejection for a retry": {by: "Settle_Reject_is_the_end_of_a_message", settle: outcomes(func(s *driver.Settlement) {
		if s.Outcome == driver.Reject {
			s.Outcome = driver.Retry
		}
	})},
	"takes a retry for a rejection": {by: "Settle_Retry_brings_the_message_again", settle: outcomes(func(s *driver.Settlement) {
		if s.Outcome == driver.Retry {
			s.Outcome = driver.Reject
		}
	})},
	"settles the first of a batch only": {by: "Settle_Reject_is_the_end_of_a_message",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			return r.Settle(ctx, ss[:min(1, len(ss))])
		}},
	"fails to settle twice": {by: "Settle_twice_is_no_error",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			for _, s := range ss {
				if _, twice := memo.LoadOrStore(s.Delivery, true); twice {
					return driver.ErrNotFound
				}
			}
			return r.Settle(ctx, ss)
		}},
	"takes for settled what it was told before the link was lost": {by: "Settle_again_after_a_cut_names_what_may_come_again",
		settle: func(_ driver.Receiver, _ context.Context, ss []driver.Settlement) error {
			for _, s := range ss {
				if _, again := memo.LoadOrStore(s.Delivery, true); !again {
					return fmt.Errorf("%w: it was not answered", driver.ErrRetryable)
				}
			}
			return nil
		}},
	"fails to settle nothing": {by: "Settle_of_nothing_is_no_error",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			if len(ss) == 0 {
				return driver.ErrNotFound
			}
			return r.Settle(ctx, ss)
		}},
	"settles late without saying so": {by: "Takeover_after_a_crash_gives_the_next_receiver_what_was_left|Takeover_gives_the_next_receiver_what_was_unsettled",
		settle: func(driver.Receiver, context.Context, []driver.Settlement) error { return nil }},
	"keeps what a closed receiver held": {by: "Takeover_gives_the_next_receiver_what_was_unsettled",
		close: func(*linkReceiver, driver.Receiver, context.Context, bool) error { return nil }},
	"acknowledges what a closed receiver held": {by: "Takeover_gives_the_next_receiver_what_was_unsettled|Handover_gives_what_was_abandoned_to_the_next",
		receive: inHands.receive, close: settlingAll(driver.Ack, 0)},
	"puts what a closed receiver held behind the others": {by: "Takeover_gives_the_next_receiver_what_was_unsettled",
		receive: inHands.receive, close: settlingAll(driver.Retry, 30*time.Millisecond)},
	"strands what a closed receiver held": {by: "Close_under_load_strands_nothing|Close_with_more_than_was_taken_strands_none",
		receive: inHands.receive, close: settlingAll(driver.Retry, 4*time.Second)},
	"strands what a closed receiver had not taken": {by: "Close_with_more_than_was_taken_strands_none",
		close: func(_ *linkReceiver, inner driver.Receiver, ctx context.Context, _ bool) error {
			moment, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			if ds, _ := inner.Receive(moment, 7); len(ds) > 0 {
				var ss []driver.Settlement
				for _, d := range ds {
					ss = append(ss, driver.Settlement{Delivery: d, Outcome: driver.Retry, After: 4 * time.Second})
				}
				_ = inner.Settle(ctx, ss)
			}
			return inner.Close(ctx)
		}},
	"fails to close twice": {by: "Close_twice_is_no_error",
		close: func(_ *linkReceiver, inner driver.Receiver, ctx context.Context, twice bool) error {
			if twice {
				return driver.ErrNotFound
			}
			return inner.Close(ctx)
		}},
	"lets a waiting Receive wait on when it is closed": {by: "Close_ends_a_waiting_Receive",
		close: func(*linkReceiver, driver.Receiver, context.Context, bool) error { return nil }},
	"goes on after it was closed": {by: "Operations_after_Close_are_ErrClosed|Close_of_the_connection_ends_a_waiting_Receive",
		closeConn: func(*link, context.Context) error { return nil }},
	"hinders who comes after a receiver that was closed at once": {by: "Open_and_close_at_once_hinders_nobody",
		opened: func(r *linkReceiver) { memo.Store(r, time.Now()) },
		close: func(r *linkReceiver, inner driver.Receiver, ctx context.Context, _ bool) error {
			if began, ok := memo.Load(r); ok && time.Since(began.(time.Time)) < 2*time.Millisecond {
				memo.Store("hindered", fmt.Sprint(r.s.Channel.Name))
			}
			return inner.Close(ctx)
		},
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			if _, hindered := memo.LoadAndDelete("hindered"); hindered {
				select {
				case <-time.After(4 * time.Second):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return r.Receive(ctx, n)
		}},
}

// settlingAll settles what is in hand when its receiver is closed.
func settlingAll(o driver.Outcome, after time.Duration) func(*linkReceiver, driver.Receiver, context.Context, bool) error {
	return func(_ *linkReceiver, inner driver.Receiver, ctx context.Context, _ bool) error {
		inHands.mu.Lock()
		defer inHands.mu.Unlock()
		var ss []driver.Settlement
		for id, d := range inHands.of {
			if inHands.r[id] == inner {
				ss = append(ss, driver.Settlement{Delivery: d, Outcome: o, After: after})
				delete(inHands.of, id)
			}
		}
		_ = inner.Settle(ctx, ss)
		return inner.Close(ctx)
	}
}
