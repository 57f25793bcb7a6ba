package natsbus_test

import (
	"net/url"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/ordertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func TestOrder_is_refused_and_warned_of_with_remedies_that_are_right(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	ordertest.Check(t, func(t *testing.T, query string) driver.Conn {
		u, err := url.Parse(srv.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = query
		o, err := natsbus.ParseURL(u)
		if err != nil {
			t.Fatal(err)
		}
		return connect(t, o)
	})
}
