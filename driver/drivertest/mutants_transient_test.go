package drivertest_test

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

// givesNothing is Receive of which some receivers are given nothing.
func givesNothing(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
	if _, deaf := memo.Load(r); deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.Receive(ctx, n)
}

func isTalk(r *linkReceiver) bool { return r.s.Broadcast && r.s.Channel.Transient }

var transientMutants = map[string]mutant{
	"gives a transient broadcast to one instance": {by: "Transient_broadcast_reaches_every_instance_and_who_sends",
		opened: func(r *linkReceiver) {
			if _, another := memo.LoadOrStore("talk"+r.s.Channel.Name, true); another && isTalk(r) {
				memo.Store(r.inner, true)
			}
		},
		receive: givesNothing},
	"gives an instance of a transient broadcast that resumes nothing": {by: "Transient_broadcast_opened_again_hears_what_is_sent_then",
		opened: func(r *linkReceiver) {
			if isTalk(r) && r.s.Resume {
				memo.Store(r.inner, true)
			}
		},
		receive: givesNothing},
}
