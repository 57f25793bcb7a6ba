package dovetail

import (
	"context"
	"errors"
	"fmt"
)

// ErrInTransaction: a message was to be sent at once with the context of an open
// transaction, which may yet be rolled back. Send it with the transaction's own
// sender, or, if it is to go whatever becomes of the transaction, with the
// context that Outside returns.
var ErrInTransaction = errors.New("a transaction is open in this context: send through the transaction's sender, which sends with the commit, " +
	"or give dovetail.Outside(ctx) to send at once, whether or not it commits")

type transactionKey struct{}

// WithinTransaction returns ctx as the context of a transaction that sends
// messages with its commit, for as long as open reports true. A service refuses
// to send with it: it would send at once. open is called from any goroutine.
// Packages that run functions in transactions, like outbox, use it.
func WithinTransaction(ctx context.Context, open func() bool) context.Context {
	return context.WithValue(ctx, transactionKey{}, open)
}

// Outside returns ctx as one that belongs to no transaction, for what a function
// that runs in a transaction sends or requests at once. It is sent though the
// transaction rolls back, and again when the function is tried again. While an
// answer is awaited the transaction stays open.
func Outside(ctx context.Context) context.Context {
	return context.WithValue(ctx, transactionKey{}, (func() bool)(nil))
}

// outside returns ErrInTransaction if ctx is that of an open transaction.
func outside(ctx context.Context, wire string) error {
	if open, _ := ctx.Value(transactionKey{}).(func() bool); open != nil && open() {
		return fmt.Errorf("send %s: %w", wire, ErrInTransaction)
	}
	return nil
}
