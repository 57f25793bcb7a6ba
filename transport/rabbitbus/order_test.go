package rabbitbus_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/ordertest"
)

func TestOrder_is_refused_and_warned_of_with_remedies_that_are_right(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	ordertest.Check(t, func(t *testing.T, query string) driver.Conn {
		o := optionsFor(t, srv)
		if n, ok := strings.CutPrefix(query, "partitions="); ok {
			o.Partitions, _ = strconv.Atoi(n)
		}
		return connect(t, o)
	})
}
