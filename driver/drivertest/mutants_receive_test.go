package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

var receiveMutants = map[string]mutant{
	"returns nothing and no error": {by: "Receive_ends_promptly_with_its_context|Settle_Reject_is_the_end_of_a_message",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, _ := r.Receive(ctx, n)
			return ds, nil
		}},
	"returns more than it was asked for": {by: "Receive_returns_no_more_than_asked",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			return r.Receive(ctx, n+1)
		}},
	"hands out more than the window": {by: "Receive_hands_out_no_more_than_the_window",
		opening: func(_ *membus.Conn, s *driver.Subscription) { s.Window *= 2 }},
	"hands out less than the window": {by: "Receive_hands_out_no_more_than_the_window",
		opening: func(_ *membus.Conn, s *driver.Subscription) { s.Window = max(1, s.Window/2) }},
	"knows no window of bytes": {by: "WindowBytes_bounds_what_is_handed_out",
		opening: func(_ *membus.Conn, s *driver.Subscription) { s.WindowBytes = 0 }},
	"lets nothing through that is over the window": {by: "WindowBytes_lets_a_message_through_that_is_over",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			if of, _ := memo.Load("window"); of == 1000 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return r.Receive(ctx, n)
		},
		opened: func(r *linkReceiver) { memo.Store("window", r.s.WindowBytes) }},
	"fetches everything into its memory": {by: "WindowBytes_bounds_what_the_client_holds",
		opened: func(r *linkReceiver) {
			page, _ := r.l.conn().Browse(context.Background(), r.s.Channel.Name, "", 1<<20)
			memo.Store(r, page) // clones
		}},
	"waits on when its context has ended": {by: "Receive_ends_promptly_with_its_context",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			if errors.Is(err, context.Canceled) {
				<-time.After(3 * time.Second)
			}
			return ds, err
		}},
	"calls an ended context closed": {by: "Receive_ends_promptly_with_its_context",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			if ctx.Err() != nil && err != nil {
				err = driver.ErrClosed
			}
			return ds, err
		}},
	"loses what came when its context ended": {by: "Receive_that_was_canceled_loses_nothing",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			if ctx.Err() == nil {
				return r.Receive(ctx, n)
			}
			moment, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_, _ = r.Receive(moment, n)
			return nil, ctx.Err()
		}},
	"returns deliveries with an error": {by: "Receive_that_was_canceled_loses_nothing",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			if ctx.Err() == nil {
				return r.Receive(ctx, n)
			}
			moment, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			ds, _ := r.Receive(moment, n)
			return ds, ctx.Err()
		}},
	"misses what is sent while it waits": {by: "Receive_wakes_for_a_message_sent_while_it_waits",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			moment, cancel := context.WithTimeout(ctx, time.Millisecond)
			ds, err := r.Receive(moment, n)
			cancel()
			if err != nil && ctx.Err() == nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return ds, err
		}},
	"changes a message that comes again": {by: "Message_never_changes", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		if d.Attempt > 1 {
			d.Message.ID = "changed"
		}
	}},
	"does not count attempts": {by: "Attempt_counts_deliveries_also_to_the_dead|Settle_Retry_brings_the_message_again",
		deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Attempt = 1 }},
	"counts attempts from 0": {by: "Settle_Retry_brings_the_message_again", deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Attempt-- }},
	"counts attempts without saying so": {by: "Settle_Retry_brings_the_message_again",
		caps: func(c *driver.Capabilities) { c.CountsAttempts = false }},
	"counts attempts for every receiver by itself": {by: "Attempt_counts_deliveries_also_to_the_dead", deliver: func(r *linkReceiver, d *driver.Delivery) {
		before, _ := memo.LoadOrStore(fmt.Sprint(r.s.Instance, d.Message.Channel, d.Message.ID), d.Attempt)
		d.Attempt -= before.(int) - 1
	}},
	"sets a message aside at its 16th delivery": {by: "Attempts_without_end_set_no_message_aside",
		receive: settingAside(16)},
	"sets a message aside at its 20th delivery": {by: "Closing_without_end_sets_no_message_aside", receive: settingAside(20)},
	"knows of one partition only":               {by: "Partition_tells_keys_apart", deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Partition = 0 }},
	"puts a key into any partition": {by: "Partition_is_the_same_for_a_key_over_all_connections",
		deliver: func(_ *linkReceiver, d *driver.Delivery) {
			d.Partition = driver.PartitionOf(d.Message.Key+string(d.Message.Body), 4)
		}},
}

// settingAside acknowledges what comes for the n-th time.
func settingAside(at int) func(driver.Receiver, context.Context, int) ([]*driver.Delivery, error) {
	return func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
		for {
			ds, err := r.Receive(ctx, n)
			var left []*driver.Delivery
			for _, d := range ds {
				if d.Attempt < at {
					left = append(left, d)
				} else if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil {
					return nil, err
				}
			}
			if len(left) > 0 || err != nil {
				return left, err
			}
		}
	}
}
