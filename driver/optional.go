package driver

import (
	"context"
	"time"
)

// What follows are abilities that some transports have. The core probes for
// each once, when it opens the connection or the receiver.

// An Extender is a Receiver whose deliveries are leased: Extend begins the
// lease of each anew. Deliveries that are no longer this receiver's are passed
// over in silence.
type Extender interface {
	Extend(ctx context.Context, deliveries []*Delivery) error
}

// A Revoker is a Receiver that can lose partitions to another while it is open
// (a rebalance, an expired lease). The channel delivers each set of partitions
// as it is lost; the core stops their lanes, abandons what has not begun, and
// calls Release when what had begun is settled. Until then nothing of these
// partitions is delivered to this receiver again.
type Revoker interface {
	Revoked() <-chan []int
	Release(ctx context.Context, partitions []int) error
}

// A Widener is a Receiver whose window can be raised while it is open. The core
// has set deliveries aside: they stay unsettled, the core keeps none of them, and
// they count no more against Window and WindowBytes. The receiver keeps no message
// of them in memory. Where deliveries are leased, each Extend begins the leases of
// these again as well. The core does not settle them: a receiver that is opened again
// delivers them again, in their order. Where this receiver itself delivers them
// again, as after a link was lost, its next Receive first returns a retryable error.
type Widener interface {
	Widen(aside []*Delivery)
}

// A Backlogger is a Receiver that knows how many messages wait for its group,
// those in hand left out.
type Backlogger interface {
	Backlog(ctx context.Context) (int64, error)
}

// StoredMessage is a message at rest in a channel.
type StoredMessage struct {
	Position string // the transport's own; opaque, ordered as the channel is
	Message  *Message
}

// A Browser is a Conn that can read a channel without consuming it and take
// single messages out of it: what dead letters are kept in.
type Browser interface {
	// Browse returns at most max messages of the channel that come after the
	// position ("" for the beginning), oldest first, and none at the end.
	Browse(ctx context.Context, channel, after string, max int) ([]StoredMessage, error)

	// Remove takes the messages at these positions out of the channel.
	// Positions that are not there are passed over.
	Remove(ctx context.Context, channel string, positions []string) error
}

// A Lister is a Conn that can say which channels and groups exist.
type Lister interface {
	Channels(ctx context.Context) ([]ChannelInfo, error)
}

// ChannelInfo is one channel as the engine has it.
type ChannelInfo struct {
	Channel  Channel
	Messages int64 // at rest; -1 where the engine does not say
	Groups   []GroupInfo
}

// GroupInfo is one group of a channel as the engine has it.
type GroupInfo struct {
	Name    string // as Subscription.GroupName has it
	Backlog int64  // not yet handed out; -1 where the engine does not say
	Pending int64  // handed out and not yet settled; -1 where the engine does not say
}

// A Remover is a Conn that can delete channels and groups, with what they hold.
// A group is named as Subscription.GroupName has it.
type Remover interface {
	RemoveChannel(ctx context.Context, channel string) error
	RemoveGroup(ctx context.Context, channel, group string) error
}

// An Examiner is a Conn that can ask whether its engine is well. What it asks is
// small, and it changes nothing.
type Examiner interface {
	// Examine returns what a person has to act on, and nothing where all is well.
	// ErrUnsupported says that this engine cannot tell as it is set up.
	Examine(ctx context.Context) ([]Finding, error)
}

// A Finding is something that is wrong with an engine.
type Finding struct {
	Subject  string   // "broker 3"
	Problem  string   // what is wrong with it
	Concerns []string // what suffers from it: "partition orders/2"
	Remedy   string   // what to do
	Stops    bool     // something does not work now; else one more fault may have that come
}

// An Incarnated is a Conn whose engine confirms messages before they would survive
// a loss of power. After an unclean start of the engine its incarnation is
// another, and what was confirmed within the window before may be gone: a
// relay publishes its retained rows of that time again. ErrUnsupported says
// that this engine cannot tell.
type Incarnated interface {
	Incarnation(ctx context.Context) (id string, window time.Duration, err error)
}
