package driver

import (
	"context"
	"time"
)

// ChannelKind says who gets a message of a channel.
type ChannelKind int

const (
	// PointToPoint: each message goes to one consumer. The channel has one
	// group; messages sent before its first subscription was provisioned wait.
	PointToPoint ChannelKind = iota
	// PublishSubscribe: each message goes to every group that was provisioned
	// before it was sent; within a group to one consumer.
	PublishSubscribe
)

// String returns the kind's name, "point-to-point" or "publish-subscribe".
func (k ChannelKind) String() string {
	if k == PublishSubscribe {
		return "publish-subscribe"
	}
	return "point-to-point"
}

// A Channel is where messages are exchanged.
type Channel struct {
	Name string // lower-case words, digits, '.', '-' and '_'; see ValidName
	Kind ChannelKind

	// Partitions is the number of units of order, each with one owner at a
	// time, where the transport has them; 0 for the transport's default.
	Partitions int

	// Transient channels carry what nobody misses after a crash: replies to a
	// caller who is gone with it, messages asked for as at-most-once. A
	// transport may carry them without persistence or confirmation, and to
	// those who listen at that moment only. Their sends may return before
	// anything was confirmed. A Broadcast subscription to one is given what
	// every instance sends, its own as well.
	Transient bool
}

// A Subscription is a group's interest in one channel.
type Subscription struct {
	Channel Channel
	Group   string // "service" or "service.name"; instances of one group compete

	// Instance names this process among those of the group; unique and stable
	// for its lifetime.
	Instance string

	// Broadcast gives every instance every message sent since its group came
	// into being, which the first OpenReceiver brings about. The group is the
	// instance's own. It outlives its receivers: Remover.RemoveGroup removes it,
	// and where the instance is gone it expires by itself after a time that the
	// transport states.
	Broadcast bool

	// Resume says that the group of a Broadcast subscription was opened before
	// by this instance. The new receiver goes on where the last one was: it
	// first delivers what that one had not settled, then what was sent since.
	// Where the group is gone, OpenReceiver returns ErrPositionLost; the core
	// then opens a new group, without Resume.
	Resume bool

	// Ordered demands order by key across all instances of the group. A
	// transport whose capabilities are below OrderOwner refuses it, unless they say
	// PartitionOwners and the channel has partitions.
	Ordered bool

	// Window bounds the deliveries that are received and not yet settled, in
	// messages; at least 1.
	Window int

	// WindowBytes bounds the same deliveries in bytes (Message.Size), with what
	// the client has fetched ahead and not yet delivered. The first message is
	// delivered whatever its size. 0 is no bound. A transport that can only
	// bound what it fetches in other units may pass the bound by one fetch of at
	// most 1 MiB, or by one message where that is larger.
	WindowBytes int

	// Lease is how long a delivery may stay unsettled before the transport may
	// deliver it again, where the transport works with leases; 0 for its
	// default. The core extends it through Extender while a handler runs.
	Lease time.Duration
}

// Order says how far a transport keeps the order of the messages of one key.
type Order int

const (
	// OrderNone: no order at all.
	OrderNone Order = iota
	// OrderInstance: messages of one key arrive in order while one receiver of
	// the group is open; several compete and overtake each other.
	OrderInstance
	// OrderOwner: each partition of a channel has one owner among the group's
	// receivers at a time, and a new owner first gets what the old one had not
	// settled.
	OrderOwner
)

// Capabilities are what a transport can do, said once and believed by the core
// and the conformance suite: a gap here is emulated by the core where that
// keeps the promises and refused at start-up otherwise.
type Capabilities struct {
	Name            string        // the transport's name, for errors: "membus"
	Durable         bool          // what Send confirmed survives a kill of every process of the transport
	Shared          bool          // reaches other processes
	Order           Order         // order by key, of channels that do not ask for partitions
	PartitionOwners bool          // OrderOwner for channels that ask for partitions (Channel.Partitions), and for all where the URL says partitions=N
	OrderedPipeline bool          // several unconfirmed batches of one key keep their order, whatever is refused
	OrderedBatch    bool          // in one Send, nothing of a key is stored behind a message of it that was not, unless that was too large
	Delay           bool          // honours Message.Due
	RetryAfter      bool          // honours Settlement.After; without it a retried delivery comes back at once
	CountsAttempts  bool          // Delivery.Attempt counts deliveries, also those to a process that died
	Broadcast       bool          // honours Subscription.Broadcast
	Deduplicates    bool          // the second of two messages with one channel, source, id and type may be dropped, for a time that the transport states
	LateSettle      bool          // Settle returns before the engine has the settlements; see Receiver.Settle
	PublishRetained bool          // a publish–subscribe message waits for every provisioned group while none listens
	Lease           time.Duration // default time to settle before redelivery; 0: redelivery only when a receiver is gone
	AckTimeout      time.Duration // the longest that a delivery may stay unsettled before the engine takes it back, whatever the receiver does (RabbitMQ: consumer_timeout); 0 for none
	MaxBatch        int           // most messages in one Send that share a round trip; 0 for no bound
	MaxBytes        int           // largest Message.Size that the transport takes; 0 for no bound. Where the engine counts otherwise the Conn is a Fitter
}

// Conn is an open connection to a transport's engine.
//
// Every method may be called at any time from any goroutine, blocks until done
// or until ctx ends, and never retries: that is the core's. After a broken
// link, a Conn mends itself in the background, and its methods return
// retryable errors meanwhile. Every call to a server has a deadline of its own,
// so that nothing hangs on a dead link.
type Conn interface {
	// Capabilities returns what this connection can do. It does not block.
	Capabilities() Capabilities

	// Provision makes the channels and subscriptions exist, keeping what
	// exists; calling it again, also after the engine lost its topology, is
	// right. What exists and contradicts what is asked for is ErrConflict.
	// Broadcast subscriptions come into being with OpenReceiver, not here.
	Provision(ctx context.Context, channels []Channel, subscriptions []Subscription) error

	// Send hands over messages, channels mixed, in order. nil says that the
	// engine has confirmed every one. *SendError names those that were not
	// confirmed, each as not sent or as unknown; the others are confirmed. Any
	// other error says that none was sent. A channel that nobody provisioned
	// is ErrNotFound.
	Send(ctx context.Context, messages []*Message) error

	// OpenReceiver begins to receive for a provisioned subscription.
	OpenReceiver(ctx context.Context, s Subscription) (Receiver, error)

	// Classify says what kind of error err is, for those that this transport
	// returned.
	Classify(err error) Kind

	// Close ends the connection and its receivers. Calling it again is right.
	Close(ctx context.Context) error
}

// Receiver takes one subscription's messages.
//
// Receive is called by one goroutine at a time; Settle and the methods of
// optional interfaces may be called by others meanwhile.
type Receiver interface {
	// Receive waits until at least one message is there and returns at most
	// max, in the order of the channel for each key. It returns earlier
	// with an error when ctx ends or the link is lost; a retryable error
	// means that the next call may succeed.
	Receive(ctx context.Context, max int) ([]*Delivery, error)

	// Settle says what became of deliveries of this receiver, in any order.
	// It returns once the engine has the settlements, as far as the engine
	// confirms them; after an error they may or may not have been taken, and
	// messages may come again. With Capabilities.LateSettle it returns before:
	// the engine has them within moments, which a crash repeats, and at the
	// latest when Close returns or a partition is another receiver's.
	//
	// Some deliveries are not this receiver's any more: their lease expired,
	// their partition is lost, or an earlier receiver of the group made them.
	// Their settlement is not taken, and the engine delivers the message again.
	// Where the transport can tell, it returns *StaleError that names them by
	// index; all others are then settled. Where it cannot, it passes them over
	// without an error. A Settle of what an earlier one settled returns nil. If that
	// one returned an error, the transport settles it again, or names what it has
	// sent and the engine has not confirmed: that may have been taken.
	Settle(ctx context.Context, settlements []Settlement) error

	// Close stops receiving and gives unsettled deliveries back to the group. The
	// group stays, that of a Broadcast subscription too.
	Close(ctx context.Context) error
}

// A Delivery is one attempt at handing a message to a consumer.
type Delivery struct {
	Message *Message

	// Attempt counts the times that this message was handed to the group, from
	// 1, where the transport counts; 0 where it does not. An engine may count
	// what a client fetched and nobody received: Attempt can be too high, and is
	// never too low.
	Attempt int

	// Fault is set when the engine's message could not be read as a Message;
	// Message then holds what could be read, with the raw bytes as Body.
	Fault error

	// Partition is the unit of order that it came from, where there are any.
	Partition int

	// Receipt is the transport's own, for Settle.
	Receipt any
}

// Outcome is what became of a delivery.
type Outcome int

const (
	// Ack: done with; never deliver it again.
	Ack Outcome = iota
	// Retry: deliver it again, after Settlement.After at the earliest where
	// the transport can wait.
	Retry
	// Reject: never deliver it again; the core has kept it as a dead letter.
	Reject
)

// A Settlement says what became of one delivery.
type Settlement struct {
	Delivery *Delivery
	Outcome  Outcome
	After    time.Duration // with Retry
}
