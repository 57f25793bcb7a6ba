package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/rogpeppe/go-internal/testscript"
)

type serviceKey struct{}

// A tinyService is what the scripts talk to: a command that fails for customers
// called bad until it is repaired, an event, a call and a survey.
type tinyService struct {
	svc      *dovetail.Service
	repaired atomic.Bool
	handled  atomic.Int64
}

type welcome struct {
	Customer string `json:"customer"`
}

type stock struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

var (
	sendWelcome = dovetail.NewCommand[welcome]("mail.send-welcome").Keyed(func(w welcome) string { return w.Customer })
	stockRanLow = dovetail.NewEvent[stock]("catalog.stock-ran-low").Keyed(func(s stock) string { return s.SKU })
	reserve     = dovetail.NewCall[stock, stock]("catalog.reserve-stock")
	view        = dovetail.NewSurvey[string, stock]("catalog.cache-view")
)

// serviceCommand: service. Runs the service mail on the script's broker until
// the script ends.
func serviceCommand(ts *testscript.TestScript, neg bool, args []string) {
	tiny := ts.Value(serviceKey{}).(*tinyService)
	ctx, stop := context.WithCancel(context.Background())
	svc, err := dovetail.Open(ctx, "mail", ts.Getenv("DOVETAIL_BROKER"), dovetail.Options{
		Instance: "one", Logger: slog.New(slog.DiscardHandler),
		Retry: dovetail.RetryPolicy{Attempts: 2, First: time.Millisecond},
	})
	if err != nil {
		stop()
		ts.Check(err)
	}
	sendWelcome.Handle(svc, func(_ context.Context, w welcome) error {
		if w.Customer == "bad" && !tiny.repaired.Load() {
			return fmt.Errorf("mail server said no")
		}
		tiny.handled.Add(1)
		return nil
	})
	stockRanLow.Subscribe(svc, func(context.Context, stock) error { tiny.handled.Add(1); return nil })
	reserve.Handle(svc, func(_ context.Context, s stock) (stock, error) {
		if s.SKU == "gone" {
			return s, dovetail.Refuse("out-of-stock", "none of %s left", s.SKU)
		}
		return stock{s.SKU, 100 - s.Count}, nil
	})
	view.Handle(svc, func(_ context.Context, sku string) (stock, error) { return stock{sku, 7}, nil })
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	ts.Defer(func() {
		stop()
		ts.Check(<-ended)
	})
	select {
	case <-svc.Ready():
	case <-time.After(20 * time.Second):
		ts.Fatalf("the service is not ready")
	}
	tiny.svc = svc
}

// repairCommand: repair. From now on the handler succeeds.
func repairCommand(ts *testscript.TestScript, neg bool, args []string) {
	ts.Value(serviceKey{}).(*tinyService).repaired.Store(true)
}

// handledCommand: handled N. Waits until the service has handled N messages.
func handledCommand(ts *testscript.TestScript, neg bool, args []string) {
	tiny := ts.Value(serviceKey{}).(*tinyService)
	n, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	eventually(ts, args[0]+" handled messages", func() bool { return tiny.handled.Load() >= n })
}

// deadCount: dead N. Waits until the service has kept N dead letters.
func deadCount(ts *testscript.TestScript, neg bool, args []string) {
	tiny := ts.Value(serviceKey{}).(*tinyService)
	n, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	eventually(ts, args[0]+" dead letters", func() bool { return tiny.svc.Stats().Dead >= n })
}
