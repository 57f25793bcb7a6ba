package rabbitbus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/keytest"
)

func TestKey_that_fails_takes_a_share(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, classic := range map[string]bool{"quorum": false, "classic": true} {
		t.Run(name, func(t *testing.T) {
			o := optionsFor(t, srv)
			o.Classic = classic
			keytest.Check(t, connect(t, o), dovetail.Options{}, 0)
		})
	}
}

// Each consumer that follows another on the channel has a share of what is set
// aside, and all of that comes again in order.
func TestReceiver_opened_anew_has_in_order_what_many_consumers_brought(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, classic := range map[string]bool{"quorum": false, "classic": true} {
		t.Run(name, func(t *testing.T) {
			drivertest.CheckLeaks(t)
			o := optionsFor(t, srv)
			o.Classic = classic
			c := connect(t, o)
			s := newQueue(t, c, 20)
			const n = 200
			sent := numbered(s.Channel.Name, n+20, 1)
			sendAll(t, c, sent)
			r := openReceiver(t, c, s)
			var first []*driver.Delivery
			for aside := 0; aside < n; {
				ds := take(t, r, 1)
				if first == nil {
					first, ds = ds, nil
				}
				r.(driver.Widener).Widen(ds)
				aside += len(ds)
			}
			if err := r.Close(within(t)); err != nil {
				t.Fatal(err)
			}
			s.Window = n + 20
			for i, d := range take(t, openReceiver(t, c, s), n+20) {
				if d.Message.ID != sent[i].ID {
					t.Fatalf("message %d is %s, want %s", i, d.Message.ID, sent[i].ID)
				}
			}
		})
	}
}

func TestKey_is_not_handled_beside_a_requeue_of_it(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	keytest.CheckRequeue(t, func() driver.Conn {
		o := optionsFor(t, srv)
		o.Partitions = 8
		return connect(t, o)
	}, dovetail.Options{}, 0)
}
