package inbox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/memstore"
)

type traceKey struct{}

// tracing hands the trace of who sends on to who handles, and counts.
type tracing struct {
	mu             sync.Mutex
	prepared, sent map[string]int // by id
}

func (tr *tracing) hooks() dovetail.Hooks {
	tr.prepared, tr.sent = map[string]int{}, map[string]int{}
	count := func(in map[string]int, ms []*driver.Message) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for _, m := range ms {
			in[m.ID]++
		}
	}
	return dovetail.Hooks{
		Prepare: func(ctx context.Context, ms []*driver.Message) {
			trace, _ := ctx.Value(traceKey{}).(string)
			for _, m := range ms {
				m.Headers = m.Headers.With("traceparent", trace)
			}
			count(tr.prepared, ms)
		},
		Send: func(ctx context.Context, ms []*driver.Message) (context.Context, func(error)) {
			return ctx, func(err error) {
				if err == nil {
					count(tr.sent, ms)
				}
			}
		},
		Handle: func(ctx context.Context, in *dovetail.Delivery) (context.Context, func(error)) {
			return context.WithValue(ctx, traceKey{}, in.Message.Headers.Get("traceparent")), nil
		},
	}
}

func TestHooks_carry_the_trace_through_outbox_and_inbox(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var tr tracing
		svc := h.Service("shop", dovetail.Options{Hooks: tr.hooks()})
		box := outbox.New(svc, memstore.New())
		svc.Declare(reserve, arrived, ranLow)
		var mu sync.Mutex
		var traces []string
		reserve.Handle(svc, inbox.Answer(box, func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			err := box.Do(ctx, func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender) error {
				return errors.Join(ranLow.Publish(ctx, out, item{"undone", 1}), errors.New("this part is undone"))
			})
			if err == nil {
				return i, errors.New("the part was not undone")
			}
			return i, arrived.Publish(ctx, out, i)
		}))
		arrived.SubscribeBatch(svc, inbox.Batch(box, func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender, i item) error {
			return ranLow.Publish(ctx, out, i)
		}))
		ranLow.Subscribe(svc, func(ctx context.Context, _ item) error {
			trace, _ := ctx.Value(traceKey{}).(string)
			mu.Lock()
			defer mu.Unlock()
			traces = append(traces, trace)
			return nil
		})
		h.Start()
		if _, err := reserve.Request(context.WithValue(t.Context(), traceKey{}, "trace-1"), svc, item{"a", 1}); err != nil {
			t.Fatal(err)
		}
		err := box.Do(context.WithValue(t.Context(), traceKey{}, "trace-2"), func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender) error {
			return arrived.PublishAll(ctx, out, []item{{"b", 1}, {"c", 1}})
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = box.Do(t.Context(), func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender) error {
			return errors.Join(arrived.Publish(ctx, out, item{"rolled back", 1}), errors.New("rolled back"))
		})
		h.Advance(time.Second)
		count := map[string]int{}
		for _, trace := range traces {
			count[trace]++
		}
		if len(traces) != 3 || count["trace-1"] != 1 || count["trace-2"] != 2 {
			t.Errorf("traces %q", traces)
		}
		unsent := 0
		for id, n := range tr.prepared {
			switch {
			case n == 1 && tr.sent[id] == 0:
				unsent++
			case n != 1 || tr.sent[id] != 1:
				t.Errorf("message %s: handed over %d times, sent %d times", id, n, tr.sent[id])
			}
		}
		if unsent != 2 { // what was undone and what was rolled back
			t.Errorf("%d messages were handed over and not sent, want 2", unsent)
		}
		if n := svc.Stats().Sent; n != 7 { // the request, three arrived, three ran low; the answer is not counted
			t.Errorf("Sent is %d, want 7", n)
		}
	})
}
