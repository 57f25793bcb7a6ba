package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// Rows of an outbox are deleted some time after they were published, whatever the
// broker says, or does not say, of what it may forget.
func TestOutbox_deletes_what_was_published_over_every_broker(t *testing.T) {
	shared := func(kind servers.Kind) func(*testing.T) string {
		return func(t *testing.T) string { return servers.Shared(t, kind).URL() }
	}
	for name, broker := range map[string]func(*testing.T) string{
		"memory": func(*testing.T) string { return "mem:" },
		"file":   func(t *testing.T) string { return "file:" + filepath.Join(t.TempDir(), "bus") + "?sync=always" },
		"embedded": func(t *testing.T) string {
			return "embedded:?sync=always&dir=" + url.QueryEscape(filepath.Join(t.TempDir(), "bus"))
		},
		"NATS": shared(servers.NATS), "RabbitMQ": shared(servers.RabbitMQ), "Kafka": shared(servers.Kafka),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			service := fmt.Sprintf("tidy%08x", rand.Uint32())
			svc, err := dovetail.Open(ctx, service, broker(t))
			if err != nil {
				t.Fatal(err)
			}
			done := dovetail.NewEvent[int](service + ".done")
			svc.Declare(done)
			db := memstore.New()
			box := outbox.New(svc, db, outbox.Options{Retention: 200 * time.Millisecond, CleanupInterval: 100 * time.Millisecond})
			running, stop := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- svc.Run(running) }()
			defer func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			if err := box.Do(ctx, func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender) error {
				return done.PublishAll(ctx, out, []int{1, 2, 3})
			}); err != nil {
				t.Fatal(err)
			}
			for left := 3; left > 0; {
				page, err := db.Next(ctx, store.Term{}, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
				if err != nil {
					t.Fatalf("%v, and %d rows were left", err, left)
				}
				left = len(page.Rows)
				backoff.Sleep(ctx, 50*time.Millisecond)
			}
		})
	}
}
