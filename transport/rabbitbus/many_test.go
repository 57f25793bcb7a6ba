package rabbitbus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// A connection has 2,047 channels unless the server says otherwise, and each
// queue that is received from takes one.
func TestReceivers_that_need_more_channels_than_a_connection_has(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	ctl(t, srv, "eval", "application:set_env(rabbit, channel_max, 100).")
	defer ctl(t, srv, "eval", "application:set_env(rabbit, channel_max, 2047).")
	o := optionsFor(t, srv)
	o.Classic, o.Partitions = true, 8
	c := connect(t, o)
	for range 2 { // closed receivers give their channels back
		var open []driver.Receiver
		for range 8 {
			s := newQueue(t, c, 10)
			r := openReceiver(t, c, s)
			open = append(open, r)
			sendAll(t, c, numbered(s.Channel.Name, 5, 5))
			for _, d := range take(t, r, 5) {
				if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
					t.Error(err)
				}
			}
		}
		for _, r := range open {
			if err := r.Close(within(t)); err != nil {
				t.Error(err)
			}
		}
	}
}
