package membus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

func TestKey_that_fails_takes_a_share(t *testing.T) {
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keytest.Check(t, bus.Connect(), dovetail.Options{}, 0)
}

func TestKey_is_not_handled_beside_a_requeue_of_it(t *testing.T) {
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keytest.CheckRequeue(t, func() driver.Conn { return bus.Connect() }, dovetail.Options{}, 8)
}
