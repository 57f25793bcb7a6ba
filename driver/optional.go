package driver

import (
	"context"
	"time"
)

// The interfaces below are abilities that some transports have. The core finds
// them by a type assertion on the Conn or the Receiver. The rules of Conn and
// Receiver hold for their methods, too: they may be called from any goroutine,
// block until done or until ctx ends, never retry, and return errors of the same
// kinds.

// An Extender is a Receiver whose deliveries are leased.
type Extender interface {
	// Extend restarts the lease of each delivery (Subscription.Lease), and of those
	// that were set aside (see Widener). It ignores deliveries that are no longer
	// this receiver's. After an error none, some or all leases are extended.
	Extend(ctx context.Context, deliveries []*Delivery) error
}

// A Revoker is a Receiver that can lose partitions to another receiver while it is
// open, by a rebalance or an expired lease.
//
// The core drops deliveries of a revoked partition that no handler has begun with,
// waits until the others are settled, for a bounded time
// (dovetail.Options.RevokeTimeout), and calls Release. A transport may bound the
// wait as well. Until Release, nothing of the partition is delivered to this
// receiver again.
type Revoker interface {
	// Revoked returns the channel on which the receiver sends the numbers of the
	// partitions that it is to give up. It is the same channel at each call. The
	// receiver may close it when it is closed.
	Revoked() <-chan []int

	// Release gives the partitions to their next owner, together with what is not
	// settled of them. It ignores partitions that are not this receiver's any more.
	Release(ctx context.Context, partitions []int) error
}

// A Widener is a Receiver whose window can be raised while it is open. The core uses
// it for a key that fails: messages of that key must not fill the window.
type Widener interface {
	// Widen tells the receiver which of its deliveries the core has set aside. They
	// stay unsettled at the engine, and the core neither keeps nor settles them. From
	// now on they do not count against Window and WindowBytes, and the receiver keeps
	// no message of them in memory. Where deliveries are leased, each Extend extends
	// their leases too. A receiver that is opened later delivers them again, in their
	// order. Where this receiver delivers them again itself, as after a lost link,
	// Receive first returns a retryable error. Widen does not block.
	Widen(aside []*Delivery)
}

// A Backlogger is a Receiver that knows how many messages wait for its group.
type Backlogger interface {
	// Backlog returns how many messages the engine or the client has for the group
	// and nobody has received. A receiver of partitions may count its own partitions
	// alone. The core opens a receiver again that delivers nothing while messages
	// wait.
	Backlog(ctx context.Context) (int64, error)
}

// StoredMessage is a message at rest in a channel.
type StoredMessage struct {
	Position string   // where it is in the channel; only the transport can read it
	Message  *Message // never changed by anybody
}

// A Browser is a Conn that can read a channel without consuming it, and remove
// single messages from it. People look at dead letters with it.
type Browser interface {
	// Browse returns at most max messages of the channel that come after the
	// position after, oldest first, and none where there are no more. after is "" for
	// the beginning, or the Position of the last message of the page before. A
	// message that a receiver has not settled may be shown. On some engines a page
	// counts as a delivery of what it reads. ErrNotFound says that the channel does not
	// exist, ErrUnsupported that a channel of its kind cannot be browsed.
	Browse(ctx context.Context, channel, after string, max int) ([]StoredMessage, error)

	// Remove deletes the messages at these positions from the channel. It ignores
	// positions where there is no message any more. A receiver that is open may have
	// such a message already, or may still receive it.
	Remove(ctx context.Context, channel string, positions []string) error
}

// A Lister is a Conn that can say which channels and groups exist.
type Lister interface {
	// Channels returns the channels that this transport has made or could use, in no
	// order, each with its groups. The result is the caller's. ErrUnsupported says that
	// the engine cannot list as it is set up.
	Channels(ctx context.Context) ([]ChannelInfo, error)
}

// ChannelInfo is one channel as the engine has it.
type ChannelInfo struct {
	Channel  Channel
	Messages int64 // stored in it; -1 where the engine does not say
	Groups   []GroupInfo
}

// GroupInfo is one group of a channel as the engine has it.
type GroupInfo struct {
	Name    string // as Subscription.GroupName returns it
	Backlog int64  // messages that no receiver has been given; -1 where the engine does not say
	Pending int64  // messages that a receiver has been given and has not settled; -1 where the engine does not say
}

// A Remover is a Conn that can delete channels and groups.
type Remover interface {
	// RemoveChannel deletes the channel with its messages and its groups.
	// ErrNotFound says that it does not exist.
	RemoveChannel(ctx context.Context, channel string) error

	// RemoveGroup deletes the group, called as Subscription.GroupName returns it, of
	// the channel. What only this group had not settled may be deleted with it. A
	// channel that does not exist is ErrNotFound; a group that does not exist is
	// ErrNotFound or no error.
	RemoveGroup(ctx context.Context, channel, group string) error
}

// An Examiner is a Conn that can ask whether its engine is healthy.
type Examiner interface {
	// Examine returns what a person has to act on, and an empty list where all is
	// well. It asks the engine little and changes nothing. ErrUnsupported says that
	// the engine cannot tell as it is set up.
	Examine(ctx context.Context) ([]Finding, error)
}

// A Finding is something that is wrong with an engine.
type Finding struct {
	Subject  string   // what is at fault: "broker 3"
	Problem  string   // what is wrong with it
	Concerns []string // what it affects: "partition orders/2"
	Remedy   string   // what to do
	Stops    bool     // true: something does not work now; false: after one more fault something may not work
}

// An Incarnated is a Conn whose engine confirms messages before they would survive
// a loss of power. An outbox's relay asks it, and publishes again what the engine
// may have lost.
type Incarnated interface {
	// Incarnation returns an id that changes when the engine starts after an unclean
	// stop, and how long before that stop a message may have been confirmed and lost
	// all the same: the window. A window of 0 is none. ErrUnsupported says that this
	// engine cannot tell.
	Incarnation(ctx context.Context) (id string, window time.Duration, err error)
}
