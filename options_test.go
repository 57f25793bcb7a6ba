package dovetail_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
)

func TestRun_refuses_what_cannot_be_meant(t *testing.T) {
	ignore := func(context.Context, item) error { return nil }
	ignoreAll := func(context.Context, []item) []error { return nil }
	for want, register := range map[string]func(*dovetail.Service){
		"Timeout(-1s)":                      func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.Timeout(-time.Second)) },
		"BatchSize(5)":                      func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.BatchSize(5)) },
		"BatchSize(0)":                      func(s *dovetail.Service) { welcome.HandleBatch(s, ignoreAll, dovetail.BatchSize(0)) },
		"Concurrency(-1)":                   func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.Concurrency(-1)) },
		"Concurrency(0)":                    func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.Concurrency(0)) },
		"Ordered: its messages have no key": func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.Ordered()) },
		"1025 partitions: want at most 1024": func(s *dovetail.Service) {
			s.Declare(welcome.On(dovetail.NewChannel("mail.other").Partitions(1025)))
		},
		"Retry.Attempts": func(s *dovetail.Service) {
			welcome.Handle(s, ignore, dovetail.Retry(dovetail.RetryPolicy{Attempts: -1}))
		},
		"middleware is nil": func(s *dovetail.Service) { welcome.Handle(s, ignore, dovetail.Use(nil)) },
		"codec is nil":      func(s *dovetail.Service) { s.Declare(welcome.Encoded(nil)) },
		"zero value":        func(s *dovetail.Service) { s.Declare(dovetail.Event[item]{}) },
		"contract is nil":   func(s *dovetail.Service) { s.Declare(nil) },
		"component is nil":  func(s *dovetail.Service) { s.Attach(nil) },
		"mail.send-welcome.v1 on channel mail.other and on mail.send-welcome": func(s *dovetail.Service) {
			s.Declare(welcome, welcome, welcome.On(dovetail.NewChannel("mail.other")))
		},
	} {
		t.Run(want, func(t *testing.T) {
			svc := dovetail.New("mail", scriptedConn(t), quick)
			register(svc)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := svc.Run(ctx); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
	opts := quick
	opts.Middleware = []dovetail.Middleware{nil}
	if err := dovetail.New("mail", scriptedConn(t), opts).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Options.Middleware[0]") {
		t.Errorf("got %v", err)
	}
}

func TestHandler_that_is_registered_after_Run_is_told_in_the_log(t *testing.T) {
	var log bytes.Buffer
	opts := quick
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	svc := dovetail.New("mail", scriptedConn(t), opts)
	stop := start(t, svc)
	stop()
	log.Reset()
	welcome.Handle(svc, func(context.Context, item) error { return nil })
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "registered after Run") {
		t.Errorf("logged %q", log.String())
	}
}

func TestContract_that_is_not_declared_is_an_error_to_send(t *testing.T) {
	svc := dovetail.New("mail", scriptedConn(t), quick)
	if err := (dovetail.Event[item]{}).Publish(t.Context(), svc, item{}); err == nil {
		t.Error("want an error")
	}
}
