package natsbus_test

import (
	"errors"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// A server that says nothing of itself cannot be told from one that is not reached,
// unless the transport does: a relay deletes what it published once the broker has said
// that it cannot say.
func TestIncarnation_without_a_link_is_not_known_yet(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	proxy := servers.NewProxy(t, srv.Addr())
	c := connect(t, natsbus.Options{URL: "nats://" + proxy.Addr()})
	if _, _, err := c.Incarnation(within(t)); !errors.Is(err, driver.ErrUnsupported) {
		t.Errorf("over a link: %v, want ErrUnsupported", err)
	}
	proxy.Cut()
	eventually(t, func() bool {
		_, _, err := c.Incarnation(within(t))
		return errors.Is(err, driver.ErrRetryable) && !errors.Is(err, driver.ErrUnsupported)
	})
	proxy.Heal()
	eventually(t, func() bool {
		_, _, err := c.Incarnation(within(t))
		return errors.Is(err, driver.ErrUnsupported)
	})
}
