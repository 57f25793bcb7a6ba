package dovetail

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// gather asks and yields what comes, as Survey.Gather says.
func gather[T any](ctx context.Context, from Caller, c *contract[T], v T, opts []GatherOption, yield func(*driver.Message, error) bool) {
	o := collect(opts)
	w, wctx, cancel, err := begin(ctx, from, c, v, &o)
	defer cancel()
	if err != nil {
		yield(nil, fmt.Errorf("gather %s: %w", c.wire, err))
		return
	}
	defer from.caller().replies.forget(w)
	good, bad := 0, 0
	var end error
	for {
		var answer arrived
		if answer, end = w.next(wctx); end != nil {
			break
		}
		m, over := answer.m, answer.over
		if over != nil {
			over = fmt.Errorf("answer of %s/%s to %s: %w", m.Source, m.Headers.Get(headerInstance), c.wire, over)
		}
		if over == nil && m.Headers.Get(headerStatus) == "" {
			good++
		} else {
			bad++
		}
		if !yield(m, over) {
			return
		}
		if o.quorum > 0 && good >= o.quorum || o.expect > 0 && good+bad >= o.expect {
			break
		}
	}
	switch {
	case errors.Is(end, ErrNotRunning):
		yield(nil, fmt.Errorf("gather %s: %w", c.wire, end))
	case errors.Is(ctx.Err(), context.Canceled):
		yield(nil, fmt.Errorf("gather %s: %w", c.wire, ctx.Err()))
	case good < o.quorum:
		yield(nil, fmt.Errorf("gather %s: %w", c.wire, &QuorumError{Want: o.quorum, Got: good, Bad: bad}))
	}
}

// ask publishes a survey whose answers go to the service's own channel.
func ask[T any](ctx context.Context, to Sender, c *contract[T], v T, opts []SendOption) error {
	o := collect(opts)
	own, err := o.of(0)
	if err != nil {
		return err
	}
	m := new(driver.Message)
	if err := c.fill(m, ctx, v, own, now()); err != nil {
		return err
	}
	m.ReplyTo = answersChannel(to.Name())
	return to.Send(ctx, []*driver.Message{m})
}
