package dovetail_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

func TestReservedAndDerivedNames_are_refused_at_declaration(t *testing.T) {
	for _, name := range []string{"dead.zz", "requeue.mail", "reply.x", "answers.x", "unhandled.mail.0123456789abcdef", "dead"} {
		for _, err := range []error{
			dovetail.NewCommand[item](name).Err(), dovetail.NewEvent[item](name).Err(),
			dovetail.NewCommand[item]("mail.x").On(dovetail.NewChannel(name)).Err(),
		} {
			if err == nil || !strings.Contains(err.Error(), "reserved") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, name := range []string{"deadline.passed", "mail.dead"} {
		if err := dovetail.NewCommand[item](name).Err(); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{"mail.audit": `write "mail-audit"`, "dead": "reserved", "reply": "reserved", strings.Repeat("m", 190): "too long"} {
		svc := open2(t, name)
		if err := svc.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("service %s: %v, want %s", name, err, want)
		}
	}
	svc := open2(t, "mail")
	ranLow.Subscribe(svc, func(context.Context, item) error { return nil }, dovetail.Group("_.x"))
	ranLow.Subscribe(svc, func(context.Context, item) error { return nil }, dovetail.Group(strings.Repeat("a", 198)))
	if err := svc.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Group: name") || !strings.Contains(err.Error(), "brokers take 200") {
		t.Errorf("Group: %v", err)
	}
}

func open2(t *testing.T, name string) *dovetail.Service {
	t.Helper()
	svc := open(t, "placeholder", quick)
	t.Cleanup(func() { svc.Close(context.WithoutCancel(t.Context())) })
	return dovetail.New(name, svc.Conn(), quick)
}

func TestRequeue_of_a_broadcast_subscription_goes_to_it_or_is_refused_with_the_reason(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got handled
		svc := h.Service("mail", dovetail.Options{Instance: "one"})
		var failing atomic.Bool
		failing.Store(true)
		handler := func(name string) func(context.Context, item) error {
			return func(ctx context.Context, i item) error {
				if failing.Load() && name == "cast" {
					return dovetail.Permanent(errors.New("no"))
				}
				return got.by(name)(ctx, i)
			}
		}
		ranLow.Subscribe(svc, handler("cast"), dovetail.Broadcast())
		ranLow.Subscribe(svc, handler("audit cast"), dovetail.Group("audit"), dovetail.Broadcast())
		svc.Declare(ranLow)
		h.Start()
		if err := ranLow.Publish(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		dead := h.DeadLetters("mail")
		if len(dead) != 1 || dead[0].Group != "mail._.one" {
			t.Fatalf("%+v", dead)
		}
		failing.Store(false)
		if got.sorted() != "audit cast " {
			t.Errorf("handled by %s", got.sorted())
		}
		d := dead[0]
		d.Group = "mail._.gone" // of an instance that is no more
		h.Requeue(d)
		d.Group = "mail.audit._.gone"
		h.Requeue(d)
		h.Settle()
		if got.sorted() != "audit cast , audit cast , cast " {
			t.Errorf("handled by %s", got.sorted())
		}
		d.Group = "mail.other._.one"
		h.Requeue(d)
		h.Settle()
		dead = h.DeadLetters("mail")
		if got.sorted() != "audit cast , audit cast , cast " || len(dead) != 1 || !strings.Contains(dead[0].Error, "broadcast subscription, which this instance does not have") {
			t.Errorf("handled by %s, dead letters %+v", got.sorted(), dead)
		}
	})
}
