package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// absent is a store that begins nothing while it is away, and that refuses the
// rows of some messages.
type absent struct {
	*memstore.Store
	away    atomic.Bool
	begins  atomic.Int64 // while away
	refuses func(store.Entry) bool
}

func (a *absent) Begin(ctx context.Context) (*memstore.Tx, error) {
	if a.away.Load() {
		a.begins.Add(1)
		return nil, errors.New("connection refused")
	}
	return a.Store.Begin(ctx)
}

func (a *absent) Insert(ctx context.Context, tx *memstore.Tx, es []store.Entry) ([]store.InboxRow, error) {
	if a.refuses != nil && slices.ContainsFunc(es, a.refuses) {
		return nil, errors.New("invalid byte sequence")
	}
	return a.Store.Insert(ctx, tx, es)
}

// lines is a log that counts its lines.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.String()), "\n")
}

func outage(t *testing.T, batch bool) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		log := &lines{}
		svc := h.Service("shop", dovetail.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		db := &absent{Store: memstore.New()}
		box := outbox.New(svc, db, outbox.Options{NoRelay: true})
		svc.Declare(arrived)
		var mu sync.Mutex
		var handled int
		last := map[string]int{}
		f := func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			mu.Lock()
			defer mu.Unlock()
			handled++
			if i.Count != last[i.SKU] {
				t.Errorf("key %s: %d came, want %d", i.SKU, i.Count, last[i.SKU])
			}
			last[i.SKU]++
			if a := dovetail.DeliveryFromContext(ctx).Attempt; a != 1 {
				t.Errorf("attempt %d", a)
			}
			return nil
		}
		if batch {
			arrived.SubscribeBatch(svc, inbox.Batch(box, f))
		} else {
			arrived.Subscribe(svc, inbox.Once(box, f))
		}
		h.Start()
		db.away.Store(true)
		const keys, each = 400, 10
		for n := range each {
			var all []item
			for k := range keys {
				all = append(all, item{"k" + strconv.Itoa(k), n})
			}
			if err := arrived.PublishAll(t.Context(), svc, all); err != nil {
				t.Fatal(err)
			}
			h.Advance(45 * time.Second / each)
		}
		if n := db.begins.Load(); n > 60 {
			t.Errorf("%d tries at a database that is away, want one at a time, ever more seldom", n)
		}
		db.away.Store(false)
		h.Advance(3 * time.Second)
		if handled != keys*each {
			t.Errorf("%d of %d messages were handled within 3 s of the database's return", handled, keys*each)
		}
		if n := len(h.DeadLetters("shop")); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		if all := log.all(); len(all) != 2 || !strings.Contains(all[0], "outage") || !strings.Contains(all[1], "outage-over") || !strings.Contains(all[1], "count=") {
			t.Errorf("the log has %d lines, want one when the outage begins and one with a count when it is over:\n%s", len(all), strings.Join(all[:min(10, len(all))], "\n"))
		}
	})
}

func TestOutage_of_the_database_counts_no_attempt_and_keeps_the_order(t *testing.T) {
	outage(t, false)
}

func TestOutage_of_the_database_counts_no_attempt_of_a_batch(t *testing.T) {
	outage(t, true)
}

// A shutdown in an outage hands all back.
func TestOutage_does_not_hold_up_a_shutdown(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("shop")
		db := &absent{Store: memstore.New()}
		db.away.Store(true)
		box := outbox.New(svc, db, outbox.Options{NoRelay: true})
		svc.Declare(arrived)
		arrived.Subscribe(svc, inbox.Once(box, func(context.Context, *memstore.Tx, dovetail.Sender, item) error { return nil }))
		h.Start()
		for n := range 100 {
			if err := arrived.Publish(t.Context(), svc, item{"tea", n}); err != nil {
				t.Fatal(err)
			}
		}
		h.Advance(20 * time.Second)
	})
}

// A message whose row the database refuses waits with its key, and the others go
// on, one by one or in batches.
func TestMessage_that_alone_cannot_begin_holds_its_key_only(t *testing.T) {
	for _, batch := range []bool{false, true} {
		dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
			log := &lines{}
			svc := h.Service("shop", dovetail.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
			db := &absent{Store: memstore.New(), refuses: func(e store.Entry) bool { return e.ID == "poison" }}
			box := outbox.New(svc, db, outbox.Options{NoRelay: true})
			svc.Declare(arrived)
			var handled atomic.Int64
			f := func(context.Context, *memstore.Tx, dovetail.Sender, item) error { handled.Add(1); return nil }
			if batch {
				arrived.SubscribeBatch(svc, inbox.Batch(box, f))
			} else {
				arrived.Subscribe(svc, inbox.Once(box, f))
			}
			h.Start()
			h.Deliver(&driver.Message{Channel: arrived.Spec().Channel.Name, ID: "poison", Source: "docks",
				Type: arrived.Spec().Type(), Key: "bad", ContentType: "application/json", Body: []byte(`{"SKU":"bad"}`)})
			for n := range 200 {
				if err := arrived.Publish(t.Context(), svc, item{"k" + strconv.Itoa(n%20), n}); err != nil {
					t.Fatal(err)
				}
				if n%20 == 0 {
					h.Advance(100 * time.Millisecond)
				}
			}
			h.Advance(5 * time.Second)
			if n := handled.Load(); n != 200 {
				t.Errorf("%d of 200 others were handled", n)
			}
			h.Advance(time.Hour)
			if all := log.all(); len(all) > 62 {
				t.Errorf("%d lines in an hour", len(all))
			}
		})
	}
}

// remote is a store whose answers take a while, as over a network.
type remote struct{ absent }

func (r *remote) Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
	<-time.After(100 * time.Millisecond)
	if r.away.Load() {
		return nil, errors.New("connection refused")
	}
	return r.absent.Lookup(ctx, keys)
}

// Requests whose callers have gone wait like all others while the database is away.
// The first that the database answers is enough to know that it is back: those that
// come now must not wait until each of the old ones was looked up by itself.
func TestOutage_is_over_with_the_first_old_request_that_is_looked_up(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("shop")
		db := &remote{absent{Store: memstore.New()}}
		box := outbox.New(svc, db, outbox.Options{NoRelay: true})
		svc.Declare(reserve)
		reserve.Handle(svc, inbox.Answer(box, func(_ context.Context, _ *memstore.Tx, _ dovetail.Sender, i item) (item, error) { return i, nil }),
			dovetail.Concurrency(50))
		h.Start()
		ask := func() error {
			_, err := reserve.Request(t.Context(), svc, item{"tea", 1}, dovetail.Within(2*time.Second))
			return err
		}
		db.away.Store(true)
		var asking sync.WaitGroup
		for range 300 {
			asking.Go(func() { _ = ask() }) // nobody answers in time
			<-time.After(100 * time.Millisecond)
		}
		db.away.Store(false)
		asking.Wait()
		<-time.After(3 * time.Second)
		if err := ask(); err != nil {
			t.Errorf("a request five seconds after the database's return: %v", err)
		}
	})
}
