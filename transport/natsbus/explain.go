package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// explain turns what a source met into the error that Receive returns.
func (r *receiver) explain(src *source, err error) error {
	name := r.s.Group + " of channel " + r.s.Channel.Name
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotOwner):
		r.lose(src)
		return nil
	case errors.Is(err, errNotServed):
		return fmt.Errorf("natsbus: receive as %s: %w: %w", name, driver.ErrRetryable, err)
	case errors.Is(err, errConsumerGone):
		if time.Now().Before(r.unsure) {
			return fmt.Errorf("natsbus: receive as %s: %w: its consumer is away", name, driver.ErrRetryable)
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.c.lookTime())
		defer cancel()
		_, err := r.c.js.Consumer(ctx, r.stream, src.consumer)
		if err == nil {
			return fmt.Errorf("natsbus: receive as %s: %w: its consumer was away", name, driver.ErrRetryable)
		}
		if !isGone(err) {
			r.unsure = time.Now().Add(r.c.lookTime()) // what else is away is not asked for one by one
		}
		if isGone(err) && r.s.Broadcast {
			return r.expired()
		}
		if isGone(err) {
			return fmt.Errorf("natsbus: receive as %s: %w: provision the subscription again", name, driver.ErrNotFound)
		}
		return translate("receive as "+name, err)
	}
	return fmt.Errorf("natsbus: receive as %s: %w", name, err)
}

func isGone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// renounce takes back what was asked for where the server has forgotten it, as when
// the leader of a consumer was lost, whatever comes from other consumers. It is asked
// for again: where the consumer is gone, the server says so.
func (r *receiver) renounce(now time.Time) {
	for _, src := range r.sources {
		if src.silent(now) {
			src.credit = 0
		}
	}
}

// lookTime bounds a question about one consumer. It is short because nobody answers
// while a cluster elects a leader, and what asks then keeps others waiting.
func (c *Conn) lookTime() time.Duration { return min(2*time.Second, c.opts.Timeout) }
