package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// A service whose window is 8 MiB holds no more than 32 MiB, whatever the broker:
// large messages, partitions, keys that are held for a retry, a handler that is
// slow, and receivers that are opened again and again. It runs by itself, since
// it looks at the heap of the process.
func TestMemory_of_a_service_stays_near_its_window(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"file": func(t *testing.T) string {
			return "file:" + filepath.Join(t.TempDir(), "bus") + "?partitions=8&sync=os"
		},
		"NATS":     func(t *testing.T) string { return servers.Shared(t, servers.NATS).URL() + "?partitions=8" },
		"RabbitMQ": func(t *testing.T) string { return servers.Shared(t, servers.RabbitMQ).URL() + "?partitions=8" },
		"Kafka":    func(t *testing.T) string { return servers.Shared(t, servers.Kafka).URL() + "?partitions=8" },
	} {
		t.Run(name, func(t *testing.T) { measureMemory(t, url(t)) })
	}
}

const (
	largeBodies = 1200
	reopenings  = 60
	most        = 32 << 20
)

func measureMemory(t *testing.T, url string) {
	ctx := t.Context()
	service := fmt.Sprintf("hungry%08x", rand.Uint32())
	blob := dovetail.NewEvent[large](service + ".blob").Keyed(func(l large) string { return l.Key })
	provision := func(svc *dovetail.Service, handle func(context.Context, large) error) {
		svc.Declare(blob)
		blob.Subscribe(svc, handle)
	}
	// The messages are there before the service runs.
	sender, err := dovetail.Open(ctx, service, url)
	if err != nil {
		t.Fatal(err)
	}
	provision(sender, func(context.Context, large) error { return nil })
	if err := sender.Conn().Provision(ctx, sender.Topology().Channels, sender.Topology().Subscriptions); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < largeBodies; i += 40 {
		batch := make([]large, 40)
		for j := range batch {
			batch[j] = large{Key: fmt.Sprint("key-", j), Text: make([]byte, 48<<10)} // 64 KiB as JSON
		}
		if err := blob.PublishAll(ctx, sender, batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.Close(ctx); err != nil {
		t.Fatal(err)
	}

	conn, err := driver.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	breaking := &breakable{Conn: conn}
	svc := dovetail.New(service, breaking, dovetail.Options{WindowBytes: 8 << 20,
		Retry: dovetail.RetryPolicy{Attempts: 1000, First: 50 * time.Millisecond, Max: 200 * time.Millisecond}})
	var handled atomic.Int64
	released := make(chan struct{})
	provision(svc, func(ctx context.Context, l large) error {
		select {
		case <-released:
		default:
			switch l.Key {
			case "key-0", "key-1", "key-2":
				return errors.New("held")
			case "key-3":
				select { // slow
				case <-released:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		handled.Add(1)
		return nil
	})
	base := liveHeap()
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(run) }()
	select {
	case <-svc.Ready():
	case err := <-ended:
		t.Fatalf("it does not serve: %v", err)
	}
	var top uint64
	for deadline := time.Now().Add(400 * time.Second); breaking.opened.Load() < reopenings && time.Now().Before(deadline); {
		<-time.After(100 * time.Millisecond)
		breaking.breaks.Add(1)
		top = max(top, liveHeap())
	}
	if n := breaking.opened.Load(); n < reopenings {
		t.Errorf("the receiver was opened %d times, want %d", n, reopenings)
	}
	if grown := int64(top) - int64(base); grown > most {
		t.Errorf("the heap grew by %d MiB, want at most %d", grown>>20, most>>20)
	} else {
		t.Logf("the heap grew by %.1f MiB at most", float64(grown)/(1<<20))
	}
	close(released)
	for deadline := time.Now().Add(60 * time.Second); handled.Load() < largeBodies && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond)
	}
	if n := handled.Load(); n < largeBodies {
		t.Errorf("%d of %d messages were handled", n, largeBodies)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type large struct {
	Key  string
	Text []byte
}

// liveHeap is how many bytes are reachable.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// breakable is a connection whose receivers of large messages end when they are
// told to, so that the core opens them again.
type breakable struct {
	driver.Conn
	breaks atomic.Int64 // how often a receiver is to end
	opened atomic.Int64
}

func (b *breakable) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := b.Conn.OpenReceiver(ctx, s)
	if err != nil || s.Channel.Kind != driver.PublishSubscribe {
		return r, err
	}
	b.opened.Add(1)
	return &breakableReceiver{Receiver: r, of: b, begun: b.breaks.Load()}, nil
}

// breakableReceiver passes on the abilities that its receiver may have.
type breakableReceiver struct {
	driver.Receiver
	of    *breakable
	begun int64
}

func (r *breakableReceiver) Receive(ctx context.Context, most int) ([]*driver.Delivery, error) {
	if r.of.breaks.Load() > r.begun {
		return nil, fmt.Errorf("ends as it was told to: %w", driver.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	return r.Receiver.Receive(ctx, most)
}

func (r *breakableReceiver) Extend(ctx context.Context, ds []*driver.Delivery) error {
	if e, ok := r.Receiver.(driver.Extender); ok {
		return e.Extend(ctx, ds)
	}
	return nil
}

func (r *breakableReceiver) Revoked() <-chan []int {
	if v, ok := r.Receiver.(driver.Revoker); ok {
		return v.Revoked()
	}
	return nil
}

func (r *breakableReceiver) Release(ctx context.Context, partitions []int) error {
	if v, ok := r.Receiver.(driver.Revoker); ok {
		return v.Release(ctx, partitions)
	}
	return nil
}
