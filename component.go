package dovetail

import (
	"context"
	"fmt"
)

// A Component is what a service runs beside its handlers: an outbox's relay, a
// sweeper.
type Component interface {
	// Run works until ctx ends. It starts after the channels are provisioned
	// and its context ends after the handlers have drained, so that what they
	// wrote can still be moved. It comes back by itself from failures that
	// pass; an error that it returns ends the service.
	Run(ctx context.Context) error
}

// A Replier is a Component that remembers replies. It is asked before a request
// that came too late is answered as expired: one that was carried out in time
// gets its answer again.
type Replier interface {
	Replied(ctx context.Context, in *Delivery) (r Reply, found bool, err error)
}

// Attach has the service run c. It must be called before Run.
func (s *Service) Attach(c Component) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		s.errs = append(s.errs, fmt.Errorf("service %s: attached component is nil: leave Attach out", s.name))
		return
	}
	s.components = append(s.components, c)
}
