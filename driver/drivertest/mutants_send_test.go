package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

func sendTwice(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
	return c.Send(ctx, append(slices.Clone(ms), ms...))
}

func loseLast(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
	return c.Send(ctx, ms[:max(1, len(ms)-1)])
}

func sendBackwards(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
	ms = slices.Clone(ms)
	slices.Reverse(ms)
	return c.Send(ctx, ms)
}

// dropping sends what is the first of its name, and confirms all.
func dropping(name func(*driver.Message) string) sender {
	return func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
		var left []*driver.Message
		for _, m := range ms {
			if _, twice := memo.LoadOrStore(name(m), true); !twice {
				left = append(left, m)
			}
		}
		return c.Send(ctx, left)
	}
}

// failures changes the SendError that a Send returns.
func failures(change func(*driver.SendError) error) sender {
	return func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
		err := c.Send(ctx, ms)
		if se := (*driver.SendError)(nil); errors.As(err, &se) {
			return change(se)
		}
		return err
	}
}

var sendMutants = map[string]mutant{
	"loses the last of a batch": {by: "Send_takes_a_large_batch_over_several_channels", send: loseLast},
	"sends a batch backwards":   {by: "Order_holds_by_key_for_one_receiver", send: sendBackwards},
	"sends everything twice":    {by: "Group_instances_compete", send: sendTwice},
	"confirms what nobody provisioned": {by: "Send_to_an_unprovisioned_channel_is_not_found",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error { _ = c.Send(ctx, ms); return nil }},
	"fails a batch as a whole": {by: "Send_names_exactly_the_messages_that_failed",
		send: failures(func(*driver.SendError) error { return driver.ErrNotFound })},
	"names the message behind the one that failed": {by: "Send_names_exactly_the_messages_that_failed",
		send: failures(func(se *driver.SendError) error {
			for i := range se.Failures {
				se.Failures[i].Index++
			}
			return se
		})},
	"names failures in any order": {by: "Send_names_exactly_the_messages_that_failed",
		send: failures(func(se *driver.SendError) error { slices.Reverse(se.Failures); return se })},
	"calls what was refused unknown": {by: "Send_names_exactly_the_messages_that_failed",
		send: failures(func(se *driver.SendError) error {
			for i := range se.Failures {
				se.Failures[i].Unknown = true
			}
			return se
		})},
	"refuses a whole batch for one that is too large": {by: "Send_names_the_message_that_is_too_large",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			for _, m := range ms {
				if m.Size() > c.Capabilities().MaxBytes {
					return driver.ErrTooLarge
				}
			}
			return c.Send(ctx, ms)
		}},
	"does not declare its limit to a message": {by: "Send_takes_any_size_where_no_limit_is_declared",
		caps: func(c *driver.Capabilities) { c.MaxBytes = 0 }},
	"drops the second of two messages with one source and id": {by: "Identity_has_the_type_in_it",
		send: dropping(func(m *driver.Message) string { return m.Channel + "|" + m.Source + "|" + m.ID })},
	"drops the second of two messages with one type and id": {by: "Identity_has_the_source_in_it",
		send: dropping(func(m *driver.Message) string { return m.Channel + "|" + m.Type + "|" + m.ID })},
	"drops what has the id of a message on another channel": {by: "Identity_has_the_channel_in_it",
		send: dropping(func(m *driver.Message) string { return m.Source + "|" + m.Type + "|" + m.ID })},
	"drops what is sent twice without saying so": {by: "Identity_twice_is_two_messages_or_declared",
		send: dropping(func(m *driver.Message) string { return m.Channel + "|" + m.Source + "|" + m.Type + "|" + m.ID })},
	"says that it drops what is sent twice and does not": {by: "Identity_twice_is_two_messages_or_declared",
		caps: func(c *driver.Capabilities) { c.Deduplicates = true }},
	"calls a send whose context ended cancelled": {by: "Send_whose_context_ends_tells_what_it_does_not_know",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := c.Send(context.WithoutCancel(ctx), ms)
			select { // the server's answer takes a moment
			case <-time.After(2 * time.Millisecond):
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
	"sends what has an ended context": {by: "Send_with_an_ended_context_is_canceled",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			return c.Send(context.WithoutCancel(ctx), ms)
		}},
	"calls what it wrote to a link that was lost not sent": {by: "Send_over_a_silent_link_tells_what_it_does_not_know",
		forgetsWhatItWrote: true},
	"hangs on a silent link": {by: "Send_ends_with_its_context_over_a_silent_link", hangs: 3 * time.Second},
	"lets some messages of a key pass others": {by: "Order_holds_by_key_for_one_receiver",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			late := slices.Clone(ms)
			for i, m := range late {
				if i%7 == 3 && m.Due.IsZero() {
					late[i] = m.Clone()
					late[i].Due = time.Now().Add(30 * time.Millisecond)
				}
			}
			return c.Send(ctx, late)
		}},
	"takes part of a key's messages for those of no key": {by: "Order_holds_by_key_across_receivers|Send_carries_every_attribute",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			some := slices.Clone(ms)
			for i := range some {
				if i%2 == 1 || len(some) == 1 {
					some[i] = some[i].Clone()
					some[i].Key = ""
				}
			}
			return c.Send(ctx, some)
		}},
	"does not wait for what is due later": {by: "Delay_holds_a_message_until_it_is_due",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			now := slices.Clone(ms)
			for i, m := range now {
				now[i] = m.Clone()
				now[i].Due = time.Time{}
			}
			return c.Send(ctx, now)
		}},
	"waits with a key's messages for one that is due later": {by: "Delay_lets_later_messages_of_the_key_pass",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			all, due := slices.Clone(ms), time.Time{}
			for i, m := range all {
				if m.Due.After(due) {
					due = m.Due
				}
				all[i] = m.Clone()
				all[i].Due = due
			}
			return c.Send(ctx, all)
		}},
	"writes into a message that it was given": {by: "Message_never_changes",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			err := c.Send(ctx, ms)
			for _, m := range ms {
				if len(m.Headers) > 0 {
					m.Headers[0].Value = "changed"
				}
			}
			return err
		}},
	"leaves a goroutine behind for every batch": {by: "Connections_see_each_others_messages",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			go func() { select {} }()
			return c.Send(ctx, ms)
		}},
	"calls a full channel closed": {by: "Send_to_a_full_channel_ends_and_names_it",
		send: failures(func(se *driver.SendError) error {
			for i, f := range se.Failures {
				if errors.Is(f.Err, driver.ErrRetryable) {
					se.Failures[i].Err = driver.ErrClosed
				}
			}
			return se
		})},
	"does not say which channel is full": {by: "Send_to_a_full_channel_ends_and_names_it",
		send: failures(func(se *driver.SendError) error {
			for i, f := range se.Failures {
				if errors.Is(f.Err, driver.ErrRetryable) {
					se.Failures[i].Err = driver.ErrRetryable
				}
			}
			return se
		})},
	"waits for room beyond its context": {by: "Send_to_a_full_channel_ends_and_names_it",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			err := c.Send(ctx, ms)
			if err != nil && strings.Contains(err.Error(), "is full") {
				<-time.After(4 * time.Second)
			}
			return err
		}},
	"refuses nothing when it is full": {by: "Send_to_a_full_channel_ends_and_names_it",
		send: failures(func(se *driver.SendError) error {
			if errors.Is(se, driver.ErrRetryable) {
				return nil
			}
			return se
		})},
	"stalls sends while a receiver is not drained": {by: "Receiver_that_nobody_drains_stalls_no_sends",
		opened: func(r *linkReceiver) { memo.Store("undrained", r.s.Channel.Name) },
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			memo.Delete("undrained")
			return r.Receive(ctx, n)
		},
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			if of, _ := memo.Load("undrained"); len(ms) > 0 && of == ms[0].Channel && len(ms[0].Body) > 1000 {
				<-ctx.Done()
				return ctx.Err()
			}
			return c.Send(ctx, ms)
		}},
}
