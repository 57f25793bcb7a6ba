package verify

import (
	"context"
	"log/slog"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/internal/leak"
)

// accepting takes every statement and answers every question with nothing.
type accepting struct{}

func (accepting) Exec(context.Context, string, ...any) error { return nil }

func (accepting) Query(context.Context, string, []any, func(func(...any) error) error) error {
	return nil
}

func TestEffect_of_path_outage_does_not_fail_as_wished(t *testing.T) {
	leak.Check(t)
	svc, err := dovetail.Open(t.Context(), "verify", "mem:verify-failures", dovetail.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{job: job{Run: "r1", Failures: 1}}
	got := map[string]error{}
	handled := make(chan struct{})
	event := p.event()
	event.Subscribe(svc, func(ctx context.Context, n Note) error {
		for _, group := range []string{"all", outage} {
			got[group] = p.effect(group, nil)(ctx, work{tables: tables{run: accepting{}}}, n)
		}
		close(handled)
		return nil
	})
	svc.Declare(event)
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()
	<-svc.Ready()
	if err := event.Publish(t.Context(), svc, Note{Key: "a", N: 1}); err != nil {
		t.Fatal(err)
	}
	<-handled
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got["all"] != errWished || got[outage] != nil {
		t.Errorf("%v: want a failure, but none on path outage, whose policy some messages would use up", got)
	}
}
