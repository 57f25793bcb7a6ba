package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

// transcript is what middleware and handlers wrote, in order.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (tr *transcript) add(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

func (tr *transcript) all() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.lines)
}

// items are n messages, each of a key of its own.
func items(n int) (is []item) {
	for i := range n {
		is = append(is, item{fmt.Sprint("sku-", i), i})
	}
	return is
}

// sendBatch has a service with one batch handler handle n messages.
func sendBatch(t *testing.T, opts dovetail.Options, n int, handle func(ctx context.Context, is []item) []error, sub ...dovetail.SubscribeOption) (dead []dovetail.DeadLetter, stats dovetail.Stats) {
	t.Helper()
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		opts.Retry = dovetail.RetryPolicy{Attempts: 3, First: time.Millisecond, Max: time.Millisecond}
		svc := h.Service("mail", opts)
		ranLow.SubscribeBatch(svc, handle, append(sub, dovetail.Concurrency(1))...)
		svc.Declare(ranLow)
		h.Start()
		if err := ranLow.PublishAll(t.Context(), svc, items(n)); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Minute)
		dead, stats = h.DeadLetters("mail"), svc.Stats()
	})
	return dead, stats
}

func TestMiddleware_wraps_batches_by_its_form(t *testing.T) {
	var tr transcript
	each := func(name string) dovetail.Middleware {
		return func(next dovetail.Handler) dovetail.Handler {
			return func(ctx context.Context, in *dovetail.Delivery) error {
				if dovetail.DeliveryFromContext(ctx) != in || len(dovetail.Batch(ctx)) != 2 {
					t.Errorf("%s has the context of another message, or of no batch", name)
				}
				tr.add("%s %s", name, in.Message.Key)
				defer tr.add("%s %s ends", name, in.Message.Key)
				return next(ctx, in)
			}
		}
	}
	whole := func(name string) dovetail.BatchMiddleware {
		return func(next dovetail.BatchHandler) dovetail.BatchHandler {
			return func(ctx context.Context, ins []*dovetail.Delivery) []error {
				tr.add("%s %d", name, len(ins))
				return next(ctx, ins)
			}
		}
	}
	_, stats := sendBatch(t, dovetail.Options{Middleware: []dovetail.Middleware{each("a")}, BatchMiddleware: []dovetail.BatchMiddleware{whole("A")}}, 2,
		func(_ context.Context, is []item) []error { tr.add("handler %d", len(is)); return nil },
		dovetail.Use(each("b")), dovetail.UseBatch(whole("B")))
	got := tr.all()
	x, y := strings.TrimPrefix(got[2], "a "), strings.TrimPrefix(got[4], "a ") // keys come in any order
	want := []string{"A 2", "B 2", "a " + x, "b " + x, "a " + y, "b " + y, "handler 2",
		"b " + y + " ends", "a " + y + " ends", "b " + x + " ends", "a " + x + " ends"}
	if !slices.Equal(got, want) || x == y || stats.Handled != 2 {
		t.Errorf("calls %q, handled %d", got, stats.Handled)
	}
}

// Whoever returns another number of errors than there are messages: each of them has
// failed, and that was one of its attempts.
func TestBatch_with_a_wrong_number_of_errors_has_failed_for_each_message(t *testing.T) {
	short := func(next dovetail.BatchHandler) dovetail.BatchHandler {
		return func(ctx context.Context, ins []*dovetail.Delivery) []error {
			return make([]error, len(ins)+1)
		}
	}
	for name, tt := range map[string]struct {
		middleware []dovetail.BatchMiddleware
		errs       int
	}{"handler": {nil, 3}, "middleware": {[]dovetail.BatchMiddleware{short}, 2}} {
		t.Run(name, func(t *testing.T) {
			opts := dovetail.Options{BatchMiddleware: tt.middleware}
			dead, stats := sendBatch(t, opts, 2, func(context.Context, []item) []error { return make([]error, tt.errs) })
			if len(dead) != 2 || stats.Handled != 0 || stats.Retried != 4 {
				t.Fatalf("dead letters %v, %+v", dead, stats)
			}
			for _, d := range dead {
				if d.Attempts != 3 || !strings.Contains(d.Error, "batch handler returned") {
					t.Errorf("%s after %d attempts: %s", d.Message.Key, d.Attempts, d.Error)
				}
			}
		})
	}
}

func TestMiddleware_of_a_batch_decides_of_its_own_message_alone(t *testing.T) {
	skip := errors.New("not this one")
	var tr transcript
	choose := func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) error {
			switch in.Message.Key {
			case "sku-0": // left out
				return dovetail.Discard(skip)
			case "sku-1": // fails afterwards
				return errors.Join(next(ctx, in), dovetail.Permanent(errors.New("after all")))
			case "sku-2": // tried again at once, alone
				if err := next(ctx, in); err != nil {
					return next(ctx, in)
				}
			}
			return next(ctx, in)
		}
	}
	dead, stats := sendBatch(t, dovetail.Options{Middleware: []dovetail.Middleware{choose}}, 4, func(ctx context.Context, is []item) []error {
		errs := make([]error, len(is))
		var keys []string
		for i, v := range is {
			keys = append(keys, v.SKU)
			if v.Count == 2 && len(is) > 1 {
				errs[i] = errors.New("not in company")
			}
			if in := dovetail.Batch(ctx)[i]; in.Message.Key != v.SKU {
				t.Errorf("message %d is %s, its value %s", i, in.Message.Key, v.SKU)
			}
		}
		slices.Sort(keys)
		tr.add("%s", strings.Join(keys, " "))
		return errs
	})
	if want := []string{"sku-1 sku-2 sku-3", "sku-2"}; !slices.Equal(tr.all(), want) {
		t.Errorf("handled %q, want %q", tr.all(), want)
	}
	if len(dead) != 1 || dead[0].Message.Key != "sku-1" || stats.Handled != 2 || stats.Discarded != 1 {
		t.Errorf("dead letters %v, %+v", dead, stats)
	}
}

func TestMiddleware_gives_each_message_of_a_batch_its_context(t *testing.T) {
	type key struct{}
	with := func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) error {
			if v := ctx.Value(key{}); v != nil {
				t.Errorf("message %s has the value of %v", in.Message.Key, v)
			}
			ctx = context.WithValue(ctx, key{}, in.Message.Key)
			if in.Message.Key == "sku-1" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Second)
				defer cancel()
			}
			return next(ctx, in)
		}
	}
	var waited time.Duration
	_, stats := sendBatch(t, dovetail.Options{Middleware: []dovetail.Middleware{with}}, 3, func(ctx context.Context, is []item) []error {
		for i, in := range dovetail.Batch(ctx) {
			if got := in.Context(ctx).Value(key{}); got != is[i].SKU {
				t.Errorf("message %s has %v", is[i].SKU, got)
			}
		}
		if at, ok := ctx.Deadline(); !ok || time.Until(at) != time.Second {
			t.Errorf("deadline %v, %v", at, ok)
		}
		from := time.Now()
		<-ctx.Done()
		waited = time.Since(from)
		return nil
	})
	if waited != time.Second || stats.Handled != 3 {
		t.Errorf("the batch's context ended after %v, %d handled", waited, stats.Handled)
	}
}

func TestMiddleware_that_recovers_does_not_hide_the_panic_of_a_batch(t *testing.T) {
	recovers := func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = fmt.Errorf("recovered: %v", v)
				}
			}()
			return next(ctx, in)
		}
	}
	for name, end := range map[string]func(){"panic": func() { panic("x") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var tr transcript
			dead, stats := sendBatch(t, dovetail.Options{Middleware: []dovetail.Middleware{recovers}}, 5, func(_ context.Context, is []item) []error {
				tr.add("%d", len(is))
				if slices.ContainsFunc(is, func(i item) bool { return i.Count == 3 }) {
					end()
				}
				return nil
			})
			if len(dead) != 1 || dead[0].Message.Key != "sku-3" || stats.Handled != 4 || tr.all()[0] != "5" {
				t.Errorf("dead letters %v, %+v, batches %v", dead, stats, tr.all())
			}
		})
	}
}

func TestMiddleware_of_a_batch_may_leave_before_the_handler(t *testing.T) {
	gone := make(chan struct{})
	impatient := func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) error {
			if in.Message.Key != "sku-1" {
				return next(ctx, in)
			}
			go func() { _ = next(ctx, in) }()
			<-gone
			return dovetail.Permanent(errors.New("too slow"))
		}
	}
	dead, stats := sendBatch(t, dovetail.Options{Middleware: []dovetail.Middleware{impatient}}, 3, func(context.Context, []item) []error {
		close(gone)
		<-time.After(time.Second)
		return nil
	})
	if len(dead) != 1 || dead[0].Message.Key != "sku-1" || stats.Handled != 2 {
		t.Errorf("dead letters %v, %+v", dead, stats)
	}
}

func TestUseBatch_is_refused_where_the_handler_takes_single_messages(t *testing.T) {
	svc := open(t, "mail", quick)
	welcome.Handle(svc, func(context.Context, item) error { return nil },
		dovetail.UseBatch(func(next dovetail.BatchHandler) dovetail.BatchHandler { return next }))
	err := svc.Run(t.Context())
	if want := "UseBatch: the handler takes single messages: wrap it with Use"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	nothing := dovetail.Options{BatchMiddleware: []dovetail.BatchMiddleware{nil}}
	if err := dovetail.New("mail", scriptedConn(t), nothing).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Options.BatchMiddleware[0] is nil") {
		t.Errorf("error %v", err)
	}
}
