package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// FuzzDeadLetter reads a dead letter of any headers, and what it would send to
// be handled again carries the original as it came.
func FuzzDeadLetter(f *testing.F) {
	f.Add("mail", "mail.send-welcome.v1", "id", "shop", "orders", "3", "shade", "grün", []byte("body"))
	f.Fuzz(func(t *testing.T, group, handler, id, source, channel, requeues, name, value string, body []byte) {
		kept := &driver.Message{Channel: "dead.mail", ID: "dead-id", Source: "mail", Type: handler, Body: body, Headers: driver.Headers{
			{Name: name, Value: value},
			{Name: "dovetail-dead-service", Value: "mail"},
			{Name: "dovetail-dead-group", Value: group},
			{Name: "dovetail-dead-handler", Value: handler},
			{Name: "dovetail-dead-requeues", Value: requeues},
			{Name: "dovetail-original-channel", Value: channel},
			{Name: "dovetail-original-id", Value: id},
			{Name: "dovetail-original-source", Value: source},
		}}
		before := fmt.Sprint(kept.Headers)
		d, err := dovetail.ParseDeadLetter(kept)
		if err != nil {
			t.Fatal(err)
		}
		m := d.Requeue()
		if m.Channel != "requeue.mail" || string(m.Body) != string(body) || m.ID == kept.ID {
			t.Fatalf("requeued %+v", m)
		}
		if fmt.Sprint(kept.Headers) != before {
			t.Fatal("reading changed the message")
		}
		again, err := dovetail.ParseDeadLetter(m)
		if err != nil {
			t.Fatal(err)
		}
		if again.Message.ID != d.Message.ID || again.Message.Source != d.Message.Source || again.Message.Channel != d.Message.Channel ||
			fmt.Sprint(again.Message.Headers) != fmt.Sprint(d.Message.Headers) || again.Group != d.Group || again.Handler != d.Handler {
			t.Fatalf("got %+v, want %+v", again, d)
		}
	})
}

func TestParseDeadLetter_refuses_other_messages(t *testing.T) {
	if _, err := dovetail.ParseDeadLetter(&driver.Message{ID: "x"}); err == nil {
		t.Error("want an error")
	}
}

func TestRequeue_to_a_handler_that_is_gone_waits_for_it(t *testing.T) {
	// The first of the service's channels is one whose messages nobody misses.
	blink := dovetail.NewEvent[item]("catalog.blink").AtMostOnce()
	svc := open(t, "mail", quick)
	blink.Subscribe(svc, func(context.Context, item) error { return nil })
	welcome.Handle(svc, func(context.Context, item) error { return nil })
	start(t, svc)
	d := dovetail.DeadLetter{
		Message: &driver.Message{Channel: "old.orders", ID: "1", Source: "shop", Type: "old.v1"},
		Service: "mail", Group: "mail.old", Handler: "old.v1",
	}
	if err := svc.Conn().Send(t.Context(), []*driver.Message{d.Requeue()}); err != nil {
		t.Fatal(err)
	}
	var dead []driver.StoredMessage
	waitFor(t, "the letter", func() bool {
		dead, _ = svc.Conn().(driver.Browser).Browse(t.Context(), dovetail.UnhandledChannel("mail", d.Group, d.Handler), "", 10)
		return len(dead) == 1
	})
	got, err := dovetail.ParseDeadLetter(dead[0].Message)
	if err != nil || got.Cause != dovetail.CauseUnhandled || got.Group != d.Group || got.Handler != d.Handler || got.Message.Channel != "old.orders" || got.Message.ID != "1" || got.Requeues != 1 {
		t.Errorf("%+v of %+v, %v", got, got.Message, err)
	}
}

func TestMessages_without_an_id_are_told_apart(t *testing.T) {
	svc := open(t, "mail", quick)
	var mu sync.Mutex
	ids := map[string]int{}
	welcome.Handle(svc, func(ctx context.Context, i item) error {
		if err := ranLow.Publish(ctx, svc, i); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ids[dovetail.DeliveryFromContext(ctx).Message.ID]++
		return errors.New("no")
	})
	sent := make(chan string, 10)
	ranLow.Subscribe(svc, func(ctx context.Context, _ item) error {
		sent <- dovetail.DeliveryFromContext(ctx).Message.ID
		return nil
	})
	svc.Declare(ranLow)
	start(t, svc)
	for range 2 { // of a program that knows nothing of ids
		m := &driver.Message{Channel: welcome.Spec().Channel.Name, Type: welcome.Spec().Type(), Body: []byte(`{}`)}
		if err := svc.Conn().Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "two dead letters", func() bool { return svc.Stats().Dead == 2 })
	dead, err := svc.Conn().(driver.Browser).Browse(t.Context(), dovetail.DeadLetterChannel("mail"), "", 10)
	if err != nil || len(dead) != 2 || dead[0].Message.ID == dead[1].Message.ID {
		t.Errorf("%d dead letters, of one id: a broker that knows a copy by it keeps one; %v", len(dead), err)
	}
	if len(ids) != 2 || ids[""] > 0 {
		t.Errorf("handled as %v: an inbox would take the second for the first", ids)
	}
	events := map[string]int{}
	for range 6 {
		events[within(t, sent, "an event")]++
	}
	if len(events) != 2 {
		t.Errorf("the two caused events %v", events)
	}
}
