package driver

import "context"

// A Sharer is a Receiver that knows whether it has competitors. Receivers of
// transports whose Order is below OrderOwner should be Sharers: the core warns of
// keyed messages that several instances receive side by side.
type Sharer interface {
	// Shared reports whether another receiver of the group, in any process, receives
	// from the same channel or partition. Messages of one key may then overtake each
	// other. The answer may be some seconds old.
	Shared(ctx context.Context) (bool, error)
}
