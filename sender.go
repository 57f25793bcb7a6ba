package dovetail

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A Sender is what messages are handed to: a *Service, an outbox transaction, a
// recorder in tests. It is safe for concurrent use unless it says otherwise.
type Sender interface {
	// Name is the service in whose name messages are sent.
	Name() string

	// Send takes messages, in order. It sets what they leave to the sender
	// (Source) and checks them against its limits and declarations before
	// anything is sent. A service returns once the broker has confirmed all of
	// them, or *SendError; others say when and whether they are sent. The
	// messages belong to the sender from then on.
	Send(ctx context.Context, messages []*driver.Message) error
}

// A Caller is a Sender that can wait for replies: a *Service. An outbox
// transaction is none, so that no reply can be awaited inside one.
type Caller interface {
	Sender
	caller() *Service
}

// sendOne encodes and sends one value.
func sendOne[T any](ctx context.Context, to Sender, c *contract[T], v T, opts []SendOption) error {
	o := collect(opts)
	own, err := o.of(0)
	if err != nil {
		return err
	}
	m := new(driver.Message)
	if err := c.fill(m, ctx, v, own, now()); err != nil {
		return err
	}
	return to.Send(ctx, []*driver.Message{m})
}

// sendAll encodes and sends many values as one batch.
func sendAll[T any](ctx context.Context, to Sender, c *contract[T], vs []T, opts []SendOption) error {
	if len(vs) == 0 {
		return nil
	}
	o := collect(opts)
	if o.id != "" && len(vs) > 1 {
		return fmt.Errorf("%w: one id for %d messages of %s", ErrInvalid, len(vs), c.wire)
	}
	var slab []driver.Message // in pieces, which the last message to be settled keeps alive
	batch := make([]*driver.Message, len(vs))
	at := now()
	var ids map[string]int // that were given, where messages have options of their own
	if len(o.each) > 0 {
		ids = make(map[string]int, len(vs))
	}
	for i, v := range vs {
		own, err := o.of(i)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if ids != nil && own.id != "" {
			if first, is := ids[own.id]; is {
				return fmt.Errorf("%w: one id, %s, for messages %d and %d of %s", ErrInvalid, own.id, first, i, c.wire)
			}
			ids[own.id] = i
		}
		if len(slab) == 0 {
			slab = make([]driver.Message, min(64, len(vs)-i))
		}
		batch[i], slab = &slab[0], slab[1:]
		if err := c.fill(batch[i], ctx, v, own, at); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return to.Send(ctx, batch)
}

func collect[O GatherOption](opts []O) (o sendOptions) {
	for _, opt := range opts {
		opt.applyTo(&o)
	}
	return o
}

// fill makes m the message that carries v, created at the given time.
func (c *contract[T]) fill(m *driver.Message, ctx context.Context, v T, o *sendOptions, at time.Time) error {
	if c.err != nil || c.codec == nil {
		return c.Err()
	}
	body, key, err := c.encode(v)
	if err != nil {
		return fmt.Errorf("%w: encode %s: %w", ErrInvalid, c.wire, err)
	}
	m.Channel = c.spec.Channel.Name
	m.Transient = c.spec.Channel.Transient
	m.Type = c.wire
	m.ContentType = c.spec.ContentType
	m.Time = at
	m.Due = o.due
	if i := slices.IndexFunc(o.headers, ours); i >= 0 {
		return fmt.Errorf("%w: header %s: names that begin with dovetail- are Dovetail's own, and receivers leave them out: choose another", ErrInvalid, o.headers[i].Name)
	}
	m.Headers = slices.Clone(o.headers) // hooks may add to them, and options are shared by a batch
	m.Body, m.Key = body, key
	m.ID = o.id
	if in := DeliveryFromContext(ctx); in != nil {
		in.causes(m)
	} else if m.ID == "" {
		m.ID = newID(at)
	}
	return nil
}

// encode returns a value's body and key. A codec or key function that panics is
// an error.
func (c *contract[T]) encode(v T) (body []byte, key string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its codec or key function panicked: %v", p)
		}
	}()
	if body, err = c.codec.Marshal(v); err == nil && c.key != nil {
		key = c.key(v)
	}
	return body, key, err
}
