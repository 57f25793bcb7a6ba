package drivertest_test

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

const tellsOthers = "Sharer_tells_of_others_that_receive_side_by_side"

var sharerMutants = map[string]mutant{
	"shares partitions that have owners": {by: tellsOthers, shared: func() bool { return true }},
	"does not know of another receiver": {by: tellsOthers, shared: func() bool { return false },
		caps: func(c *driver.Capabilities) { c.Order = driver.OrderInstance }},
}

func (r *linkReceiver) Shared(context.Context) (bool, error) {
	return r.l.e.m.shared != nil && r.l.e.m.shared(), nil
}
