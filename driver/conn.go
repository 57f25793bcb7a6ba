package driver

import (
	"context"
	"time"
)

// ChannelKind says who gets a message of a channel.
type ChannelKind int

const (
	// PointToPoint: each message goes to one consumer. The channel has one
	// group. Messages that were sent before that group was provisioned wait
	// for it.
	PointToPoint ChannelKind = iota
	// PublishSubscribe: each message goes to every group that was provisioned
	// before the message was sent, and to one consumer of each group.
	PublishSubscribe
)

// String returns the kind's name, "point-to-point" or "publish-subscribe".
func (k ChannelKind) String() string {
	if k == PublishSubscribe {
		return "publish-subscribe"
	}
	return "point-to-point"
}

// A Channel is where messages are exchanged: a topic, a queue, a stream.
type Channel struct {
	Name string // a valid name; see ValidName
	Kind ChannelKind

	// Partitions is the number of units of order, each with one owner at a
	// time, where the transport has them. 0 is the transport's default.
	Partitions int

	// Transient channels carry what nobody needs after a crash: replies to a
	// caller, and messages that are sent at most once. A transport may carry
	// them without persistence and without confirmation, and only to those who
	// receive at that moment; Send may return before anything was confirmed. A
	// Broadcast subscription to a transient channel receives what every
	// instance sends, its own instance included.
	Transient bool
}

// A Subscription is a group's interest in one channel.
type Subscription struct {
	Channel Channel
	Group   string // "service" or "service.name"; the instances of one group compete

	// Instance names this process among those of the group. The name is unique
	// among them and does not change while the process runs.
	Instance string

	// Broadcast gives the instance every message that is sent after its group
	// was made. The group is the instance's own (see GroupName) and is made by
	// the first OpenReceiver, not by Provision. It stays when a receiver is
	// closed. Remover.RemoveGroup removes it; where the instance is gone, it
	// expires after a time that the transport states.
	Broadcast bool

	// Resume says that this instance has opened the group of the Broadcast
	// subscription before. The new receiver goes on where the last one was: it
	// delivers first what that one had not settled, then what was sent since.
	// Where the group is gone, OpenReceiver returns ErrPositionLost. The core
	// then opens a new group, without Resume.
	Resume bool

	// Ordered demands order by key across all instances of the group. A
	// transport whose Capabilities.Order is below OrderOwner refuses it with
	// ErrUnsupported, unless it has PartitionOwners and the channel has partitions.
	Ordered bool

	// Window is the most deliveries, in messages, that are received and not yet
	// settled; at least 1.
	Window int

	// WindowBytes bounds the same deliveries in bytes (Message.Size), together
	// with what the client has fetched ahead. The first message is delivered
	// whatever its size. 0 is no bound. A transport that can only bound its
	// fetches in other units may exceed the bound by one fetch of at most 1 MiB,
	// or by one message where that is larger.
	WindowBytes int

	// Lease is how long a delivery may stay unsettled before the transport may
	// deliver it again, where the transport works with leases. 0 is
	// Capabilities.Lease. The core extends the lease of what it has received and
	// not settled every third of this time, where the receiver is an Extender.
	Lease time.Duration
}

// Order says how far a transport keeps the order of the messages of one key.
type Order int

const (
	// OrderNone: no order at all.
	OrderNone Order = iota
	// OrderInstance: messages of one key are delivered in order while the group
	// has one open receiver. With several, they overtake each other.
	OrderInstance
	// OrderOwner: each partition of a channel has one owner among the group's
	// receivers at a time. A new owner first gets what the previous one had not
	// settled.
	OrderOwner
)

// Capabilities are what a transport can do. The core and the conformance suite
// rely on them: what is missing is emulated by the core where that keeps its
// promises, and refused when the service starts otherwise.
type Capabilities struct {
	Name            string        // the transport's name, for errors: "membus"
	Durable         bool          // what Send confirmed survives a kill of every process of the transport
	Shared          bool          // it reaches other processes
	Order           Order         // order by key, of channels that do not ask for partitions
	PartitionOwners bool          // OrderOwner for channels that ask for partitions (Channel.Partitions), and for all where the URL says partitions=N
	OrderedPipeline bool          // several unconfirmed batches of one key keep their order, whatever is refused
	OrderedBatch    bool          // within one Send: once a message of a key failed, no later message of that key is stored. A message that is refused as too large does not stop later ones
	Delay           bool          // it delivers a message no earlier than Message.Due
	RetryAfter      bool          // it waits for Settlement.After; without it a delivery settled as Retry is delivered again at once
	CountsAttempts  bool          // Delivery.Attempt counts deliveries, also those to a process that died
	Broadcast       bool          // it accepts Subscription.Broadcast
	Deduplicates    bool          // of two messages with one channel, source, id and type it may drop the second, within a time that the transport states
	LateSettle      bool          // Settle returns before the engine has the settlements; see Receiver.Settle
	PublishRetained bool          // a publish–subscribe message waits for every provisioned group, also for one without a receiver
	Lease           time.Duration // default of Subscription.Lease; 0: no leases, a delivery is given to another only when its receiver is gone
	AckTimeout      time.Duration // the longest that a delivery may stay unsettled before the engine takes it back, whatever the receiver does (RabbitMQ: consumer_timeout); 0 for none
	MaxBatch        int           // the most messages of one Send that share a round trip; 0 for no bound
	MaxBytes        int           // the largest Message.Size that the transport takes; 0 for no bound. Where the engine counts differently, the Conn is a Fitter
}

// Conn is an open connection to a transport's engine.
//
// Every method may be called at any time from any goroutine. It blocks until it
// is done or ctx ends, and it never retries: the core does that. After the link
// broke, a Conn reconnects in the background; meanwhile its methods return
// retryable errors. Every call to a server has a time-out of its own, so that
// nothing waits for ever on a dead link. A ctx bounds one call: what that call
// opened stays open when the ctx ends. After Close, calls that reach the engine
// return ErrClosed.
type Conn interface {
	// Capabilities returns what this connection can do. It does not block.
	Capabilities() Capabilities

	// Provision makes channels and the groups of subscriptions, with the
	// channels of the subscriptions, and leaves alone what exists. Calling it
	// again is safe, also after the engine lost what was made. ErrConflict says
	// that something exists with other settings than were asked for. The group of
	// a Broadcast subscription is made by OpenReceiver, not here. An error may
	// leave a part of it made.
	Provision(ctx context.Context, channels []Channel, subscriptions []Subscription) error

	// Send sends messages, in order; they may be for several channels. nil says
	// that the engine has confirmed all of them. *SendError names those that
	// were not confirmed, each as not sent or as unknown; all others are
	// confirmed. Any other error says that none was sent. The error of a message
	// for a channel that nobody provisioned is ErrNotFound. Send may keep and share
	// the messages but does not change them; the slice is the caller's again when
	// Send returns.
	Send(ctx context.Context, messages []*Message) error

	// OpenReceiver opens a receiver of a provisioned subscription. ErrNotFound
	// says that the channel or the group does not exist. The caller closes the
	// receiver; Conn.Close closes it too.
	OpenReceiver(ctx context.Context, s Subscription) (Receiver, error)

	// Classify returns the kind of an error that this transport returned. It
	// does not block.
	Classify(err error) Kind

	// Close closes the receivers and the connection. Sends that have not ended
	// may fail. Closing again is safe.
	Close(ctx context.Context) error
}

// Receiver takes one subscription's messages.
//
// Receive is called by one goroutine at a time. Settle, Close and the methods of
// optional interfaces may be called by other goroutines meanwhile.
type Receiver interface {
	// Receive waits until at least one message is there, and returns what is
	// there, at most max (1 or more) and within the window. It does not wait for
	// max to fill up. Messages of one key come in the channel's order, as far as
	// Capabilities.Order says. An error says that nothing was received: ctx
	// ended, the link was lost, or the receiver was closed (ErrClosed). After a
	// retryable error the next call may succeed. Slice and deliveries are the
	// caller's; the messages in them are never changed.
	Receive(ctx context.Context, max int) ([]*Delivery, error)

	// Settle says what became of deliveries of this receiver, in any order. It
	// returns once the engine has the settlements, as far as the engine confirms
	// them. After an error they may or may not have been taken, and the messages
	// may be delivered again. With Capabilities.LateSettle it returns earlier: the
	// engine has the settlements soon after, and at the latest when Close returns
	// or the partition has another owner. A crash in between redelivers them.
	//
	// A delivery is not this receiver's any more when its lease expired, its
	// partition was lost, or an earlier receiver of the group received it. Its
	// settlement is not taken, and the engine delivers the message again. Where
	// the transport can tell, Settle returns *StaleError, which names such
	// settlements by index; all others are settled. Where it cannot tell, it
	// ignores them without an error. To settle a delivery again is safe: where
	// the first Settle succeeded, nothing happens; where it returned an error, the
	// transport settles the delivery, or names it in a *StaleError because what it
	// had sent was not confirmed and may have been taken.
	Settle(ctx context.Context, settlements []Settlement) error

	// Close ends Receive and gives unsettled deliveries back to the group, which
	// stays, also that of a Broadcast subscription. Closing again is safe.
	Close(ctx context.Context) error
}

// A Delivery is one attempt to hand a message to a consumer.
type Delivery struct {
	Message *Message // never changed by anybody

	// Attempt counts how often this message was handed to the group, from 1,
	// where the transport counts; 0 where it does not. An engine may count what
	// a client fetched and nobody received: Attempt can be too high, and is never
	// too low.
	Attempt int

	// Fault is set where the engine's message could not be read as a Message.
	// Message then holds what could be read, and the raw bytes as Body.
	Fault error

	// Partition is the number of the partition that it came from, from 0; 0 where
	// there are none.
	Partition int

	// Receipt is the transport's own, for Settle. Nobody else reads it.
	Receipt any
}

// Outcome is what became of a delivery.
type Outcome int

const (
	// Ack: the message is done; never deliver it again.
	Ack Outcome = iota
	// Retry: deliver the message again, no earlier than Settlement.After where
	// the transport can wait (Capabilities.RetryAfter).
	Retry
	// Reject: never deliver the message again; the core has kept it as a dead
	// letter. Transports treat it as Ack, or tell their engine so.
	Reject
)

// A Settlement says what became of one delivery.
type Settlement struct {
	Delivery *Delivery // one that the same receiver returned
	Outcome  Outcome
	After    time.Duration // for Retry: how long to wait, from Settle on; 0 or less for not at all
}
