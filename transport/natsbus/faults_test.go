package natsbus_test

import (
	"context"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
)

func TestFaults_lose_and_invert_nothing(t *testing.T) {
	for name, o := range map[string]struct {
		natsbus.Options
		parameters string // the same in a URL
	}{
		"one stream": {natsbus.Options{AckWait: 2 * time.Second}, "?timeout=2s&ack-wait=2s"},
		"partitions": {natsbus.Options{AckWait: 5 * time.Second, Partitions: 4, OwnerTTL: time.Second}, "?timeout=2s&ack-wait=5s&partitions=4&owner-ttl=1s"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := servers.Start(t, servers.NATS)
			open := func(ctx context.Context, change func(*natsbus.Options)) (driver.Conn, error) {
				o := o.Options
				o.URL, o.Timeout, o.Logger = srv.URL(), 2*time.Second, quiet
				change(&o)
				return natsbus.Connect(ctx, o)
			}
			drivertest.Faults(t, drivertest.Harness{
				Patience: patience,
				Open:     func(ctx context.Context) (driver.Conn, error) { return open(ctx, func(*natsbus.Options) {}) },
				Restart:  srv.Restart,
				URL:      srv.URL() + o.parameters,
				Addr:     srv.Addr(),
				Through: func(ctx context.Context, addr string) (driver.Conn, error) {
					return open(ctx, func(o *natsbus.Options) { o.URL = "nats://" + addr })
				},
				Full: func(ctx context.Context) (driver.Conn, error) {
					return open(ctx, func(o *natsbus.Options) { o.MaxBytes = 64 << 10 }) // some 250 messages
				},
			})
		})
	}
}

// A receiver that was killed with all it had in hand is succeeded at once, not
// when its leases have run out, and in order.
func TestReceiver_that_died_is_succeeded_before_its_leases_end(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	c := connect(t, natsbus.Options{URL: srv.URL()}) // leases of 30 s
	s := work("death-of-one")
	provision(t, c, s)
	group := drivertest.NewConsumerGroup(t, s)
	if err := group.Send(within(t), c, drivertest.Numbered(s.Channel.Name, "k", 0, 200, 5)); err != nil {
		t.Fatal(err)
	}
	dead, err := natsbus.Connect(within(t), natsbus.Options{URL: srv.URL(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	r, err := dead.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Receive(within(t), 10); err != nil {
		t.Fatal(err)
	}
	var link *nats.Conn
	dead.As(&link)
	link.Close() // gives nothing back
	_ = dead.Close(within(t))
	began := time.Now()
	group.Join(c, "2")
	group.Check()
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %v, as if leases had run out", took)
	}
}
