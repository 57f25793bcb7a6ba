package natsbus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// Other keys go on, in the partition of the key as well, of which a receiver has
// but a share of its window where there are many.
func TestKey_that_fails_takes_a_share(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	for name, o := range map[string]natsbus.Options{
		"one consumer":  {},
		"one partition": {Partitions: 1},
		"16 partitions": {Partitions: 16},
	} {
		t.Run(name, func(t *testing.T) {
			o.URL, o.Logger = srv.URL(), quiet
			keytest.Check(t, connect(t, o), dovetail.Options{}, 0)
		})
	}
}

func TestKey_is_not_handled_beside_a_requeue_of_it(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	keytest.CheckRequeue(t, func() driver.Conn { return connect(t, natsbus.Options{URL: srv.URL(), Partitions: 8}) }, dovetail.Options{}, 0)
}
