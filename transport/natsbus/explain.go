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
		ctx, cancel := r.c.deadline(context.Background())
		defer cancel()
		_, err := r.c.js.Consumer(ctx, r.stream, src.consumer)
		if err == nil {
			return fmt.Errorf("natsbus: receive as %s: %w: its consumer was away", name, driver.ErrRetryable)
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

// watch looks for sources whose requests the server has forgotten.
func (r *receiver) watch(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, src := range r.sources {
		if src.silent(now) {
			src.credit = 0
			if err := r.explain(src, errConsumerGone); err != nil && !errors.Is(err, driver.ErrRetryable) {
				return err
			}
		}
	}
	return nil
}
