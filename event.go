package dovetail

import (
	"context"

	"github.com/dovetail-go/dovetail/codec"
)

// An Event says that something happened. It is published, and every group that
// subscribed gets it (Publish-Subscribe Channel, Event Message in Enterprise
// Integration Patterns).
type Event[T any] struct {
	contract[T]
}

// NewEvent declares an event by its name, as in "catalog.stock-ran-low". Its body is T,
// encoded as JSON; its channel bears the contract's name.
func NewEvent[T any](name string) Event[T] { return Event[T]{newContract[T](KindEvent, name)} }

// Keyed returns the contract with a key: messages of one key are handled in
// order.
func (c Event[T]) Keyed(key func(T) string) Event[T] {
	c.setKey(key)
	return c
}

// On returns the contract on a channel that it may share with others.
func (c Event[T]) On(channel Channel) Event[T] {
	c.setChannel(channel)
	return c
}

// Version returns the contract's major version n; receivers of other versions
// do not get its messages.
func (c Event[T]) Version(n int) Event[T] {
	c.setVersion(n)
	return c
}

// Encoded returns the contract with bodies encoded by cd.
func (c Event[T]) Encoded(cd codec.Codec) Event[T] {
	c.setCodec(cd)
	return c
}

// AtMostOnce returns the contract on a transient channel: faster, reaching
// those who listen at that moment, and lost with whatever fails in between.
func (c Event[T]) AtMostOnce() Event[T] {
	c.spec.Channel.Transient = true
	return c
}

// Publish sends the event to every group that subscribed. With a service it
// returns once the broker has confirmed it; with an outbox transaction, once it
// is checked, and the event is published if the transaction commits.
func (c Event[T]) Publish(ctx context.Context, to Sender, v T, opts ...SendOption) error {
	return sendOne(ctx, to, &c.contract, v, opts)
}

// PublishAll is Publish for many events at once. With a service, *SendError
// names by index those that were not confirmed. Options apply to each; an ID is
// refused.
func (c Event[T]) PublishAll(ctx context.Context, to Sender, vs []T, opts ...SendOption) error {
	return sendAll(ctx, to, &c.contract, vs, opts)
}

// Subscribe handles the event, once for each group: the service's own, or the
// one that the option Group names. What goes wrong with the registration is returned by Run.
func (c Event[T]) Subscribe(svc *Service, handle func(ctx context.Context, v T) error, opts ...SubscribeOption) {
	svc.handle(&c, typed(&c.contract, handle), opts)
}

// SubscribeBatch handles many events at once, at most one of each key: as many
// as are there, up to the batch size of its options. The errors it returns are
// those of the items, by index; nil says that all were handled.
func (c Event[T]) SubscribeBatch(svc *Service, handle func(ctx context.Context, vs []T) []error, opts ...SubscribeOption) {
	svc.handleBatch(&c, typedBatch(&c.contract, handle), opts)
}
