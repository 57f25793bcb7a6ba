package outbox_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
	_ "github.com/dovetail-go/dovetail/transport/membus"
)

var (
	placed = dovetail.NewEvent[string]("ordering.placed")
	ask    = dovetail.NewCall[string, string]("ordering.ask")
	place  = dovetail.NewCommand[string]("ordering.order")
)

func TestService_refuses_what_is_sent_past_an_open_transaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, err := dovetail.Open(t.Context(), "ordering", "mem:", dovetail.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		box := outbox.New(svc, memstore.New())
		svc.Declare(placed, ask, place)
		var mu sync.Mutex
		var got []string
		placed.Subscribe(svc, func(_ context.Context, v string) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, v)
			return nil
		})
		ask.Handle(svc, func(_ context.Context, v string) (string, error) { return v + "!", nil })
		var inHandler error
		place.Handle(svc, inbox.Once(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, v string) error {
			inHandler = placed.Publish(ctx, svc, "past the inbox")
			return placed.Publish(ctx, out, v)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		boom := errors.New("boom")
		var kept context.Context
		err = box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			kept = ctx
			if err := placed.Publish(ctx, svc, "past"); !errors.Is(err, dovetail.ErrInTransaction) {
				t.Errorf("publish: %v", err)
			}
			if err := placed.PublishAll(ctx, svc, []string{"past", "past"}); !errors.Is(err, dovetail.ErrInTransaction) {
				t.Errorf("publish all: %v", err)
			}
			from := time.Now()
			if _, err := ask.Request(ctx, svc, "past"); !errors.Is(err, dovetail.ErrInTransaction) || time.Since(from) > 0 {
				t.Errorf("request: %v after %v", err, time.Since(from))
			}
			out1 := dovetail.Outside(ctx)
			if a, err := ask.Request(out1, svc, "outside"); err != nil || a != "outside!" {
				t.Errorf("request outside: %q, %v", a, err)
			}
			if err := placed.Publish(out1, svc, "outside"); err != nil {
				t.Errorf("publish outside: %v", err)
			}
			if err := placed.Publish(ctx, out, "rolled back"); err != nil {
				t.Error(err)
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Errorf("do: %v", err)
		}
		if err := placed.Publish(kept, svc, "afterwards"); err != nil {
			t.Errorf("with the context of a transaction that has ended: %v", err)
		}
		if err := place.Send(ctx, svc, "in the inbox"); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		mu.Lock()
		slices.Sort(got)
		if want := []string{"afterwards", "in the inbox", "outside"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		mu.Unlock()
		if !errors.Is(inHandler, dovetail.ErrInTransaction) {
			t.Errorf("in a handler of an inbox: %v", inHandler)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestDo_within_Do_with_another_context_ends_and_says_why(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		from := time.Now()
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			err := b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error { return nil })
			if err == nil || !strings.Contains(err.Error(), "the context that the outer one's function was given") {
				b.Errorf("the inner Do: %v", err)
			}
			return send(ctx, out, "1")
		}))
		if took := time.Since(from); took > time.Minute {
			b.Errorf("it took %v", took)
		}
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error { return send(ctx, out, "2") }))
		b.want(0, "1", "2")
	})
}

func TestDo_refuses_two_parts_at_once(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		boom := errors.New("boom")
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			begun, end, first := make(chan struct{}), make(chan struct{}), make(chan error)
			go func() {
				first <- b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					close(begun)
					<-end
					tx.Put("undone", nil)
					return errors.Join(send(ctx, out, "undone"), boom)
				})
			}()
			<-begun
			err := b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				b.Error("both run")
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), "one runs at a time") {
				b.Errorf("the second Do: %v", err)
			}
			close(end)
			if err := <-first; !errors.Is(err, boom) {
				b.Errorf("the first Do: %v", err)
			}
			b.must(b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				return b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					tx.Put("kept", nil)
					return send(ctx, out, "1")
				})
			}))
			return nil
		}))
		b.want(0, "1")
		if keys := b.db.Keys(); !slices.Equal(keys, []string{"kept"}) {
			b.Errorf("keys %v", keys)
		}
	})
}

func TestFlush_writes_once(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		tx, err := b.db.Begin(b.Context())
		b.must(err)
		out := b.box.Buffered(tx)
		b.must(send(b.Context(), out, "1"))
		b.must(out.Flush(b.Context()))
		b.must(out.Flush(b.Context()))
		b.must(b.db.Commit(b.Context(), tx, store.Writes{}))
		b.box.Wake()
		b.want(0, "1")
	})
}
