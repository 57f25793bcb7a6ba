package dovetail

import (
	"context"

	"github.com/dovetail-go/dovetail/codec"
)

// A Document hands data to one receiver, which decides what to do with it
// (Document Message, Point-to-Point Channel in Enterprise Integration
// Patterns).
type Document[T any] struct {
	contract[T]
}

// NewDocument declares a document by its name, as in "ordering.invoice". Its body is T,
// encoded as JSON; its channel bears the contract's name.
func NewDocument[T any](name string) Document[T] {
	return Document[T]{newContract[T](KindDocument, name)}
}

// Keyed returns the contract with a key: messages of one key are handled in
// order.
func (c Document[T]) Keyed(key func(T) string) Document[T] {
	c.setKey(key)
	return c
}

// On returns the contract on a channel that it may share with others.
func (c Document[T]) On(channel Channel) Document[T] {
	c.setChannel(channel)
	return c
}

// Version returns the contract's major version n; receivers of other versions
// do not get its messages.
func (c Document[T]) Version(n int) Document[T] {
	c.setVersion(n)
	return c
}

// Encoded returns the contract with bodies encoded by cd.
func (c Document[T]) Encoded(cd codec.Codec) Document[T] {
	c.setCodec(cd)
	return c
}

// AtMostOnce returns the contract on a transient channel: faster, reaching
// those who listen at that moment, and lost with whatever fails in between.
func (c Document[T]) AtMostOnce() Document[T] {
	c.spec.Channel.Transient = true
	return c
}

// Send sends the document to its one receiver. With a service it returns once the
// broker has confirmed it; with an outbox transaction, once it is checked, and
// it is sent if the transaction commits.
func (c Document[T]) Send(ctx context.Context, to Sender, v T, opts ...SendOption) error {
	return sendOne(ctx, to, &c.contract, v, opts)
}

// SendAll is Send for many documents at once. With a service, *SendError names by
// index those that were not confirmed. Options apply to each; an ID is refused.
func (c Document[T]) SendAll(ctx context.Context, to Sender, vs []T, opts ...SendOption) error {
	return sendAll(ctx, to, &c.contract, vs, opts)
}

// Handle handles the document. What goes wrong with the registration is returned
// by Run.
func (c Document[T]) Handle(svc *Service, handle func(ctx context.Context, v T) error, opts ...SubscribeOption) {
	svc.handle(&c, typed(&c.contract, handle), opts)
}

// HandleBatch handles many documents at once, at most one of each key: as many as
// are there, up to the batch size of its options. The errors it returns are
// those of the items, by index; nil says that all were handled.
func (c Document[T]) HandleBatch(svc *Service, handle func(ctx context.Context, vs []T) []error, opts ...SubscribeOption) {
	svc.handleBatch(&c, typedBatch(&c.contract, handle), opts)
}
