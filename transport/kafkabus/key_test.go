package kafkabus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
)

// The keys are of one partition, which goes on behind what is set aside.
func TestKey_that_fails_takes_a_share(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	keytest.Check(t, connect(t, options(s)), dovetail.Options{}, 1)
}

func TestKey_is_not_handled_beside_a_requeue_of_it(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	for name, partitions := range map[string]int{"8 partitions": 8, "more instances than partitions": 2} {
		t.Run(name, func(t *testing.T) {
			keytest.CheckRequeue(t, func() driver.Conn { return connect(t, options(s)) }, dovetail.Options{}, partitions)
		})
	}
}
