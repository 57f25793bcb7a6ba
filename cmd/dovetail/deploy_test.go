package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/servers"
)

// A service is deployed from version 1 to version 2 under load, on each broker:
// every message of either version is handled by the instance that can.
func TestRollingDeploy_loses_nothing(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"embedded": func(t *testing.T) string { return "embedded:" + filepath.Join(t.TempDir(), "bus") },
		"NATS":     func(t *testing.T) string { return servers.Shared(t, servers.NATS).URL() },
		"RabbitMQ": func(t *testing.T) string { return servers.Shared(t, servers.RabbitMQ).URL() },
		"Kafka":    func(t *testing.T) string { return servers.Shared(t, servers.Kafka).URL() + "?partitions=4" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := deploy{T: t, url: url(t), service: fmt.Sprintf("billing%08x", rand.Uint32()), seen: map[string]bool{}}
			d.run()
		})
	}
}

type deploy struct {
	*testing.T
	url, service string

	mu   sync.Mutex
	seen map[string]bool
}

func (d *deploy) open(name string) *dovetail.Service {
	d.Helper()
	svc, err := dovetail.Open(d.Context(), name, d.url)
	if err != nil {
		d.Fatal(err)
	}
	return svc
}

// start runs a service until the test ends.
func (d *deploy) start(svc *dovetail.Service) {
	d.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	d.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			d.Errorf("run: %v", err)
		}
	})
	select {
	case <-svc.Ready():
	case err := <-ended:
		ended <- nil
		d.Fatalf("%s does not serve: %v", svc.Name(), err)
	case <-time.After(30 * time.Second):
		d.Fatalf("%s does not serve", svc.Name())
	}
}

func (d *deploy) handler(kind string) func(context.Context, int) error {
	return func(_ context.Context, n int) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.seen[fmt.Sprint(kind, "/", n)] = true
		return nil
	}
}

func (d *deploy) run() {
	paid := dovetail.NewEvent[int](d.service + ".paid")
	bill := dovetail.NewCommand[int](d.service + ".bill")
	register := func(svc *dovetail.Service, versions int) {
		for v := 1; v <= versions; v++ {
			paid.Version(v).Subscribe(svc, d.handler(fmt.Sprint("paid v", v)))
			bill.Version(v).Handle(svc, d.handler(fmt.Sprint("bill v", v)))
		}
	}
	const n = 100
	sender := d.open("shop")
	sender.Declare(paid, paid.Version(2), bill, bill.Version(2))
	send := func(from, to int) {
		for i := from; i < to; i++ {
			if err := errors.Join(paid.Publish(d.Context(), sender, i), paid.Version(2).Publish(d.Context(), sender, i),
				bill.Send(d.Context(), sender, i), bill.Version(2).Send(d.Context(), sender, i)); err != nil {
				d.Fatal(err)
			}
		}
	}
	old := d.open(d.service)
	register(old, 1)
	d.start(old)
	d.start(sender)
	send(0, n/2)
	fresh := d.open(d.service)
	register(fresh, 2)
	d.start(fresh)
	send(n/2, n)
	count := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.seen)
	}
	for end := time.Now().Add(60 * time.Second); count() < 4*n && time.Now().Before(end); {
		<-time.After(50 * time.Millisecond)
	}
	if got := count(); got != 4*n || old.Stats().Unhandled == 0 {
		d.Errorf("%d of %d handled, %d forwarded by the old instance", got, 4*n, old.Stats().Unhandled)
	}
}
