package dovetail_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/dovetail-go/dovetail"
)

type spanKey struct{}

// spans are options whose hook puts the message's id into the handler's context.
func spans(ended *atomic.Int32) dovetail.Options {
	opts := quick
	opts.Hooks.Handle = func(ctx context.Context, in *dovetail.Delivery) (context.Context, func(error)) {
		if dovetail.DeliveryFromContext(ctx) != in {
			ctx = context.WithValue(ctx, spanKey{}, "not of the message")
			return ctx, nil
		}
		return context.WithValue(ctx, spanKey{}, "span of "+in.Message.ID), func(error) { ended.Add(1) }
	}
	return opts
}

func TestHooks_give_each_message_of_a_batch_its_context(t *testing.T) {
	var ended atomic.Int32
	svc := open(t, "mail", spans(&ended))
	type userKey struct{}
	all := make(chan struct{})
	total := 0
	welcome.HandleBatch(svc, func(ctx context.Context, vs []item) []error {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, userKey{}, "transaction"))
		cancel()
		for _, in := range dovetail.Batch(ctx) {
			own := in.Context(ctx)
			if got := own.Value(spanKey{}); got != "span of "+in.Message.ID {
				t.Errorf("message %s has %v", in.Message.ID, got)
			}
			if dovetail.DeliveryFromContext(own) != in || own.Value(userKey{}) != "transaction" || own.Err() == nil || len(dovetail.Batch(own)) != len(vs) {
				t.Error("it is not the context that was given")
			}
		}
		if total += len(vs); total == 10 {
			close(all)
		}
		return nil
	}, dovetail.Concurrency(1))
	svc.Declare(welcome)
	start(t, svc)
	if err := welcome.SendAll(t.Context(), svc, make([]item, 10)); err != nil {
		t.Fatal(err)
	}
	within(t, all, "all messages")
	waitFor(t, "the hooks' ends", func() bool { return ended.Load() == 10 })
}

func TestHooks_hear_of_handlers_that_end_their_goroutine(t *testing.T) {
	var ended atomic.Int32
	svc := open(t, "mail", spans(&ended))
	var attempts, batches atomic.Int32
	welcome.Handle(svc, func(context.Context, item) error {
		if attempts.Add(1) == 1 {
			runtime.Goexit()
		}
		return nil
	})
	ranLow.SubscribeBatch(svc, func(context.Context, []item) []error {
		if batches.Add(1) == 1 {
			runtime.Goexit()
		}
		return nil
	})
	svc.Declare(welcome, ranLow)
	start(t, svc)
	if err := errors.Join(welcome.Send(t.Context(), svc, item{}), ranLow.Publish(t.Context(), svc, item{})); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the ends of four attempts", func() bool { return ended.Load() == 4 })
}
