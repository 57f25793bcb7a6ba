package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestHandler_that_is_cancelled_has_failed_and_is_tried_again(t *testing.T) {
	svc := open(t, "mail", quick)
	var attempts atomic.Int32
	done := make(chan struct{})
	welcome.Handle(svc, func(ctx context.Context, _ item) error {
		switch attempts.Add(1) {
		case 1:
			return context.Canceled
		case 2:
			return fmt.Errorf("query: %w", context.DeadlineExceeded)
		}
		close(done)
		return nil
	})
	svc.Declare(welcome)
	start(t, svc)
	if err := welcome.Send(t.Context(), svc, item{}); err != nil {
		t.Fatal(err)
	}
	within(t, done, "the third attempt")
}

func TestHandler_that_ends_its_goroutine_loses_neither_message_nor_worker(t *testing.T) {
	svc := open(t, "mail", quick)
	var attempts atomic.Int32
	done := make(chan struct{})
	welcome.Handle(svc, func(ctx context.Context, _ item) error {
		if attempts.Add(1) < 3 {
			runtime.Goexit()
		}
		close(done)
		return nil
	}, dovetail.Concurrency(1))
	svc.Declare(welcome)
	start(t, svc)
	if err := welcome.Send(t.Context(), svc, item{}); err != nil {
		t.Fatal(err)
	}
	within(t, done, "an attempt that returns")
}

func TestDerivedIDs_are_the_same_when_a_handler_runs_again(t *testing.T) {
	svc := open(t, "mail", quick)
	var mu sync.Mutex
	var ids []string
	var first atomic.Bool
	welcome.Handle(svc, func(ctx context.Context, i item) error {
		for range 2 { // equals get ids of their own
			if err := ranLow.Publish(ctx, svc, i); err != nil {
				return err
			}
		}
		if first.CompareAndSwap(false, true) {
			return errors.New("once more")
		}
		return nil
	})
	all := make(chan struct{})
	ranLow.Subscribe(svc, func(ctx context.Context, _ item) error {
		in := dovetail.DeliveryFromContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		if in.Message.CausationID != "cause" || in.Message.CorrelationID != "cause" {
			t.Errorf("caused by %q in conversation %q", in.Message.CausationID, in.Message.CorrelationID)
		}
		if ids = append(ids, in.Message.ID); len(ids) == 4 {
			close(all)
		}
		return nil
	})
	svc.Declare(welcome, ranLow)
	start(t, svc)
	if err := welcome.Send(t.Context(), svc, item{"x", 1}, dovetail.ID("cause")); err != nil {
		t.Fatal(err)
	}
	within(t, all, "four events")
	if ids[0] != ids[2] || ids[1] != ids[3] || ids[0] == ids[1] {
		t.Errorf("ids %v", ids)
	}
}

func TestBatchHandler_gets_one_of_each_key_and_retries_items_alone(t *testing.T) {
	svc := open(t, "catalog", quick)
	var mu sync.Mutex
	seen := map[string][]int{}
	failed := map[int]bool{}
	total := 0
	all := make(chan struct{})
	ranLow.SubscribeBatch(svc, func(ctx context.Context, items []item) []error {
		mu.Lock()
		defer mu.Unlock()
		keys := map[string]bool{}
		errs := make([]error, len(items))
		for i, it := range items {
			if keys[it.SKU] {
				t.Errorf("key %s twice in a batch", it.SKU)
			}
			keys[it.SKU] = true
			if it.Count%7 == 0 && it.SKU == "k3" && !failed[it.Count] {
				failed[it.Count] = true
				errs[i] = errors.New("not this one")
				continue
			}
			seen[it.SKU] = append(seen[it.SKU], it.Count)
			if total++; total == 500 {
				close(all)
			}
		}
		if got := len(dovetail.Batch(ctx)); got != len(items) {
			t.Errorf("%d messages for %d items", got, len(items))
		}
		return errs
	}, dovetail.BatchSize(20), dovetail.Concurrency(4))
	svc.Declare(ranLow)
	start(t, svc)
	var items []item
	for n := range 50 {
		for k := range 10 {
			items = append(items, item{fmt.Sprintf("k%d", k), n})
		}
	}
	if err := ranLow.PublishAll(t.Context(), svc, items); err != nil {
		t.Fatal(err)
	}
	within(t, all, "all items")
	for k, counts := range seen {
		if len(counts) != 50 || !slices.IsSorted(counts) {
			t.Errorf("%s: %v", k, counts)
		}
	}
}

func TestDrain_finishes_what_has_begun_and_hands_back_the_rest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := open(t, "mail", quick)
		var begun, finished atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			begun.Add(1)
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				t.Error("cancelled although there was time")
			}
			finished.Add(1)
			return nil
		}, dovetail.Concurrency(2))
		svc.Declare(welcome)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		if err := welcome.SendAll(ctx, svc, make([]item, 10)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		from := time.Now()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(from); took > 11*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if begun.Load() != 2 || finished.Load() != 2 {
			t.Errorf("%d begun, %d finished, want 2", begun.Load(), finished.Load())
		}
	})
}

func TestDrain_cancels_handlers_that_take_too_long_and_says_so(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.DrainTimeout = time.Second
		svc := open(t, "mail", opts)
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			<-ctx.Done()
			return ctx.Err()
		})
		svc.Declare(welcome)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		if err := welcome.Send(ctx, svc, item{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if err := <-ended; err == nil {
			t.Error("want an error that tells of the unfinished message")
		}
	})
}

func TestExpiredRequest_is_answered_so_and_not_carried_out(t *testing.T) {
	shop, catalog := open(t, "shop", quick), open(t, "catalog", quick)
	reserve.Handle(catalog, func(context.Context, item) (item, error) {
		t.Error("carried out")
		return item{}, nil
	})
	shop.Declare(reserve)
	start(t, shop, catalog)
	late := &driver.Message{
		Channel: "catalog.reserve-stock", ID: "late", Source: "shop", Type: "catalog.reserve-stock.v1",
		Time: time.Now().Add(-time.Minute), Timeout: time.Second, ReplyTo: "reply.shop." + shop.Instance(),
		ContentType: "application/json", Body: []byte(`{}`),
	}
	if err := shop.Conn().Send(t.Context(), []*driver.Message{late}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the late reply", func() bool { return shop.Stats().LateReplies == 1 && catalog.Stats().Expired == 1 })
}

func TestTypesThatNobodyHandles_are_settled(t *testing.T) {
	orders := dovetail.NewChannel("ordering.orders")
	placed := dovetail.NewEvent[item]("ordering.placed").On(orders)
	other := dovetail.NewEvent[item]("ordering.other").On(orders)
	svc := open(t, "catalog", quick)
	got := make(chan item, 1)
	placed.Subscribe(svc, func(_ context.Context, i item) error { got <- i; return nil })
	svc.Declare(placed, other)
	start(t, svc)
	if err := errors.Join(other.Publish(t.Context(), svc, item{}), placed.Publish(t.Context(), svc, item{"x", 1})); err != nil {
		t.Fatal(err)
	}
	within(t, got, "the event that is handled")
	waitFor(t, "the other to be counted", func() bool { return svc.Stats().Unhandled == 1 })
}

func TestPoison_goes_to_the_dead_letters_and_the_next_message_is_handled(t *testing.T) {
	svc := open(t, "mail", quick)
	got := make(chan item, 1)
	welcome.Handle(svc, func(_ context.Context, i item) error { got <- i; return nil })
	svc.Declare(welcome)
	start(t, svc)
	bad := &driver.Message{Channel: "mail.send-welcome", ID: "bad", Type: "mail.send-welcome.v1", ContentType: "application/json", Body: []byte(`{"sku":`)}
	odd := &driver.Message{Channel: "mail.send-welcome", ID: "odd", Type: "mail.send-welcome.v1", ContentType: "application/x-odd", Body: []byte(`?`)}
	if err := svc.Conn().Send(t.Context(), []*driver.Message{bad, odd}); err != nil {
		t.Fatal(err)
	}
	if err := welcome.Send(t.Context(), svc, item{"good", 1}); err != nil {
		t.Fatal(err)
	}
	within(t, got, "the good message")
	waitFor(t, "two dead letters", func() bool { return svc.Stats().Dead == 2 })
	if n := svc.Stats().Retried; n != 0 {
		t.Errorf("poison was tried again %d times", n)
	}
}

func TestMiddleware_wraps_outermost_first_and_once_an_attempt(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	named := func(name string) dovetail.Middleware {
		return func(next dovetail.Handler) dovetail.Handler {
			return func(ctx context.Context, in *dovetail.Delivery) error {
				mu.Lock()
				calls = append(calls, fmt.Sprint(name, in.Attempt))
				mu.Unlock()
				return next(ctx, in)
			}
		}
	}
	opts := quick
	opts.Middleware = []dovetail.Middleware{named("a"), named("b")}
	svc := open(t, "mail", opts)
	done := make(chan struct{})
	welcome.Handle(svc, func(ctx context.Context, _ item) error {
		if dovetail.DeliveryFromContext(ctx).Attempt == 1 {
			return errors.New("again")
		}
		close(done)
		return nil
	}, dovetail.Use(named("c")))
	svc.Declare(welcome)
	start(t, svc)
	if err := welcome.Send(t.Context(), svc, item{}); err != nil {
		t.Fatal(err)
	}
	within(t, done, "the second attempt")
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"a1", "b1", "c1", "a2", "b2", "c2"}; !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}

func TestAsk_brings_answers_to_the_asking_service_whenever_they_come(t *testing.T) {
	shop, catalog := open(t, "shop", quick), open(t, "catalog", quick)
	view.Handle(catalog, func(_ context.Context, sku string) (item, error) {
		if sku == "none" {
			return item{}, dovetail.Refuse("no-view", "none of %s", sku)
		}
		return item{sku, 7}, nil
	})
	type answer struct {
		a   dovetail.Answer[item]
		err error
	}
	got := make(chan answer, 2)
	view.Answers(shop, func(_ context.Context, a dovetail.Answer[item], err error) error {
		got <- answer{a, err}
		return nil
	})
	shop.Declare(view)
	start(t, shop, catalog)
	if err := view.Ask(t.Context(), shop, "some", dovetail.ID("q1")); err != nil {
		t.Fatal(err)
	}
	if g := within(t, got, "an answer"); g.err != nil || g.a.Value.Count != 7 || g.a.Request != "q1" || g.a.Service != "catalog" {
		t.Errorf("got %+v", g)
	}
	if err := view.Ask(t.Context(), shop, "none"); err != nil {
		t.Fatal(err)
	}
	var refusal *dovetail.Refusal
	if g := within(t, got, "a refusal"); !errors.As(g.err, &refusal) || g.a.Instance != catalog.Instance() {
		t.Errorf("got %+v", g)
	}
}
