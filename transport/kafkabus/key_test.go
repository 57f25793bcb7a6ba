package kafkabus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
)

// The keys are of one partition, which goes on behind what is set aside.
func TestKey_that_fails_takes_a_share(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	keytest.Check(t, connect(t, options(s)), dovetail.Options{}, 1)
}
