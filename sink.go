package dovetail

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

// A sink takes what a source receives, and knows what of it is in hand.
type sink interface {
	// room waits until messages may be taken in, and returns how many.
	room(ctx context.Context) (int, error)

	// take takes deliveries in. It may wait for room.
	take(from *source, ds []*driver.Delivery)

	// each calls f for every item in hand of the source. f must not block.
	each(from *source, f func(*item))

	// drop hands back every item that has an exit and has not begun. What has begun
	// goes on, and its exit counts it.
	drop(of func(*item) *exit)

	// abandon has the items that an exit counts not be settled, and returns how many
	// they are.
	abandon(e *exit) (n int)
}

// nothingInHand is a part of sinks that are done with what they take at once.
type nothingInHand struct{}

func (nothingInHand) room(ctx context.Context) (int, error) { return maxReceive, ctx.Err() }
func (nothingInHand) each(*source, func(*item))             {}
func (nothingInHand) drop(func(*item) *exit)                {}
func (nothingInHand) abandon(*exit) int                     { return 0 }
