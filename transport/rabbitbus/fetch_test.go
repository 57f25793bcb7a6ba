package rabbitbus_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// What the server delivers ahead follows the sizes of messages: a budget of
// bytes is the whole window where messages are small, and few where they are
// large.
func TestReceiver_prefetches_by_the_size_of_messages(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, classic := range map[string]bool{"quorum": false, "classic": true} {
		t.Run(name, func(t *testing.T) {
			drivertest.CheckLeaks(t)
			o := optionsFor(t, srv)
			o.Classic = classic
			c := connect(t, o)
			s := newQueue(t, c, 600)
			s.WindowBytes = 4 << 20 // 64 messages of 64 KiB, as long as nothing is known
			r := openReceiver(t, c, s)
			ms := numbered(s.Channel.Name, 600, 30)
			sendAll(t, c, ms)
			next := map[string]int{}
			handle := func(ds []*driver.Delivery) {
				for _, d := range ds {
					if want := fmt.Sprintf("%s/%d", d.Message.Key, next[d.Message.Key]); d.Message.ID != want {
						t.Fatalf("got %s, want %s", d.Message.ID, want)
					}
					next[d.Message.Key]++
				}
				for _, d := range ds {
					if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			handle(take(t, r, 600)) // all at once in hand
			large := drivertest.Numbered(s.Channel.Name, "k", 600, 1200, 30)
			for _, m := range large {
				m.Body = make([]byte, 100_000)
			}
			sendAll(t, c, large)
			for n := 0; n < 600; {
				ds := take(t, r, 1)
				for { // all that come without a settlement
					more, err := r.Receive(expired(t), 600)
					if err != nil {
						break
					}
					ds = append(ds, more...)
				}
				if len(ds)*100_000 > s.WindowBytes {
					t.Fatalf("%d messages of 100,000 bytes are in hand at once", len(ds))
				}
				handle(ds)
				n += len(ds)
			}
		})
	}
}

// Owners of partitions come and go with a byte budget, and messages of any size.
func TestReceivers_keep_order_with_a_byte_budget(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Partitions = 4
	c := connect(t, o)
	s := newQueue(t, c, 300)
	s.WindowBytes = 1 << 20
	group := drivertest.NewConsumerGroup(t, s)
	group.Each = time.Millisecond
	var leave []func()
	const batch = 300
	for i := range 8 {
		ms := drivertest.Numbered(s.Channel.Name, "k", i*batch, (i+1)*batch, 20)
		for _, m := range ms {
			m.Headers = append(m.Headers, driver.Header{Name: "padding", Value: strings.Repeat("x", i%2*20_000)})
		}
		if err := group.Send(within(t), c, ms); err != nil {
			t.Fatal(err)
		}
		if i < 3 {
			leave = append(leave, group.Join(connect(t, o), fmt.Sprint(i)))
		}
		if i == 5 {
			leave[0]()
		}
	}
	group.Check()
}
