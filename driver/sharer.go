package driver

import "context"

// A Sharer is a Receiver that knows whether others of its group receive side by
// side with it, in any process, from the same channel or partition: messages of
// one key may then overtake each other. Transports whose channels may have no
// owners (Order below OrderOwner) should be one, for people to be warned.
type Sharer interface {
	Shared(ctx context.Context) (bool, error)
}
