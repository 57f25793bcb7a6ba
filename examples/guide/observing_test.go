package guide

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

type traceKey struct{}

// tracing hands the trace of who sends on to who handles. A tracer's own context
// goes here.
func tracing() dovetail.Hooks {
	return dovetail.Hooks{
		Prepare: func(ctx context.Context, messages []*driver.Message) {
			trace, ok := ctx.Value(traceKey{}).(string)
			for _, m := range messages {
				if ok {
					m.Headers = m.Headers.With("traceparent", trace)
				}
			}
		},
		Handle: func(ctx context.Context, in *dovetail.Delivery) (context.Context, func(error)) {
			ctx = context.WithValue(ctx, traceKey{}, in.Message.Headers.Get("traceparent"))
			return ctx, func(error) {} // where a span ends
		},
	}
}

// counting counts what the broker confirmed and what it did not.
func counting(sent, failed func(n int)) dovetail.Hooks {
	return dovetail.Hooks{
		Send: func(ctx context.Context, messages []*driver.Message) (context.Context, func(error)) {
			return ctx, func(err error) {
				bad := 0
				var some *dovetail.SendError
				switch {
				case errors.As(err, &some):
					bad = len(some.Failures)
				case err != nil:
					bad = len(messages)
				}
				sent(len(messages) - bad)
				failed(bad)
			}
		},
	}
}

// timed logs how long handlers take: each message, and batches as a whole.
func timed(log *slog.Logger) dovetail.Options {
	return dovetail.Options{
		Middleware: []dovetail.Middleware{func(next dovetail.Handler) dovetail.Handler {
			return func(ctx context.Context, in *dovetail.Delivery) error {
				if dovetail.Batch(ctx) != nil {
					return next(ctx, in) // it is timed with its batch
				}
				defer took(log, in.Handler, time.Now())
				return next(ctx, in)
			}
		}},
		BatchMiddleware: []dovetail.BatchMiddleware{func(next dovetail.BatchHandler) dovetail.BatchHandler {
			return func(ctx context.Context, ins []*dovetail.Delivery) []error {
				defer took(log, ins[0].Handler, time.Now())
				return next(ctx, ins)
			}
		}},
	}
}

func took(log *slog.Logger, what string, since time.Time) {
	log.Info("handled", "handler", what, "took", time.Since(since))
}

// health shows what does not go on, and says so by its status where it has not
// for a minute.
func health(svc *dovetail.Service) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		stuck := svc.Stuck() // the oldest first
		if len(stuck) > 0 && time.Since(stuck[0].Since) > time.Minute {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"stuck": stuck, "stats": svc.Stats()})
	}
}

func TestObserving_follows_messages_and_shows_what_is_stuck(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var mu sync.Mutex
		var log strings.Builder
		total, traces := 0, []string(nil)
		count := func(n int) { mu.Lock(); defer mu.Unlock(); total += n }
		opts := timed(slog.New(slog.NewTextHandler(&log, nil)))
		opts.Hooks = dovetail.JoinHooks(tracing(), counting(count, func(int) {}))
		svc := h.Service("payment", opts)
		broken := true
		ChargeCard.Handle(svc, func(ctx context.Context, c Charge) error {
			mu.Lock()
			defer mu.Unlock()
			traces = append(traces, ctx.Value(traceKey{}).(string))
			if broken {
				return errBusy
			}
			return nil
		}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 1000, Max: time.Second}))
		svc.Declare(ChargeCard)
		h.Start()
		ctx := context.WithValue(t.Context(), traceKey{}, "trace-1")
		if err := ChargeCard.Send(ctx, svc, Charge{"7", 250}); err != nil {
			t.Fatal(err)
		}
		h.Advance(2 * time.Minute)
		page := httptest.NewRecorder()
		health(svc)(page, nil)
		if body := page.Body.String(); page.Code != http.StatusServiceUnavailable || !strings.Contains(body, `"kind":"held"`) || !strings.Contains(body, `"error":"the bank is busy"`) {
			t.Errorf("health %d: %s", page.Code, body)
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		h.Advance(2 * time.Second)
		page = httptest.NewRecorder()
		health(svc)(page, nil)
		if page.Code != http.StatusOK || total != 1 || traces[0] != "trace-1" || !strings.Contains(log.String(), "handler=payment.charge-card.v1") {
			t.Errorf("health %d: %s; sent %d, traces %v, log %q", page.Code, page.Body, total, traces[:1], log.String())
		}
	})
}
