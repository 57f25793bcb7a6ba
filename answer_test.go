package dovetail_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestAnswer_to_a_channel_that_does_not_exist_stops_nothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("catalog", conn, quick)
		reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
		defer runBubble(t, svc)()
		m := &driver.Message{
			Channel: reserve.Spec().Channel.Name, ID: "x", Source: "elsewhere", Type: reserve.Spec().Type(),
			Time: time.Now(), ReplyTo: "reply.nobody.there", Body: []byte(`{}`),
		}
		if err := conn.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n > 0 || svc.Stats().LostCallers != 1 {
			t.Errorf("%d messages are not settled, %d callers lost", n, svc.Stats().LostCallers)
		}
	})
}

func TestDeadLetter_that_the_broker_does_not_take_holds_up_no_other_message(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		var full atomic.Bool
		full.Store(true)
		conn.refuse(driver.ErrDenied, func(m *driver.Message) bool { return full.Load() && m.Channel == "dead.mail" })
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(_ context.Context, i item) error {
			if i.Count == 0 {
				return errors.New("no")
			}
			return nil
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		for n := range 1000 {
			if err := welcome.Send(t.Context(), svc, item{Count: n}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 1 {
			t.Errorf("%d messages are not settled, want only the one that failed", n)
		}
		full.Store(false)
		<-time.After(time.Minute)
		dead, err := conn.Conn.(driver.Browser).Browse(t.Context(), "dead.mail", "", 10)
		if n := conn.unsettled(t); err != nil || len(dead) != 1 || n > 0 {
			t.Errorf("%d dead letters, %d messages not settled, %v", len(dead), n, err)
		}
	})
}

func TestMiddleware_decides_the_answer(t *testing.T) {
	var after func(next error) error
	opts := quick
	opts.Middleware = []dovetail.Middleware{func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) error { return after(next(ctx, in)) }
	}}
	svc := open(t, "catalog", opts)
	reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
	svc.Declare(reserve)
	start(t, svc)
	after = func(error) error { return errors.New("commit failed") }
	var failed *dovetail.RemoteError
	if got, err := reserve.Request(t.Context(), svc, item{"x", 1}); !errors.As(err, &failed) {
		t.Errorf("failed after the handler: got %v, %v", got, err)
	}
	after = func(error) error { return dovetail.Refuse("forbidden", "not you") }
	var refused *dovetail.Refusal
	if got, err := reserve.Request(t.Context(), svc, item{"x", 1}); !errors.As(err, &refused) || refused.Code != "forbidden" {
		t.Errorf("refused after the handler: got %v, %v", got, err)
	}
}

func TestOnDeadLetter_is_told_once_the_dead_letter_is_kept_and_until_it_has_heard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		var full atomic.Bool
		full.Store(true)
		conn.refuse(driver.ErrRetryable, func(m *driver.Message) bool { return full.Load() && m.Channel == "dead.mail" })
		svc := dovetail.New("mail", conn, quick)
		var told atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			dovetail.DeliveryFromContext(ctx).OnDeadLetter(func(context.Context) error {
				if told.Add(1) == 1 {
					return errors.New("database is away")
				}
				return nil
			})
			return dovetail.Permanent(errors.New("no"))
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if told.Load() != 0 {
			t.Error("told of a dead letter that is not kept: a crash now would lose the message")
		}
		full.Store(false)
		<-time.After(time.Minute)
		if n := conn.unsettled(t); told.Load() != 2 || n > 0 {
			t.Errorf("told %d times, want 2; %d messages not settled", told.Load(), n)
		}
	})
}

// unsettling is a fake: the settlements of one channel are refused.
type unsettling struct {
	*scripted
	channel string
	left    atomic.Int32
}

type unsettlingReceiver struct {
	driver.Receiver
	c *unsettling
}

func (c *unsettling) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	if err != nil || s.Channel.Name != c.channel {
		return r, err
	}
	return &unsettlingReceiver{r, c}, nil
}

func (r *unsettlingReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if r.c.left.Add(-1) >= 0 {
		return driver.ErrDenied
	}
	return r.Receiver.Settle(ctx, s)
}

func TestReplies_come_although_some_could_not_be_settled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.Instance = "one"
		conn := &unsettling{scripted: scriptedConn(t), channel: "reply.catalog.one"}
		conn.left.Store(2048) // as many as the receiver's window
		svc := dovetail.New("catalog", conn, opts)
		reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
		svc.Declare(reserve)
		defer runBubble(t, svc)()
		for n := range 2100 {
			if _, err := reserve.Request(t.Context(), svc, item{"x", n}); err != nil {
				t.Fatalf("request %d: %v", n, err)
			}
			synctest.Wait()
		}
	})
}

func TestSurvey_that_cannot_be_read_and_awaits_no_answer_is_settled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("catalog", conn, quick) // answers surveys only, and so has no dead letters
		view.Handle(svc, func(context.Context, string) (item, error) { return item{}, nil })
		defer runBubble(t, svc)()
		m := &driver.Message{Channel: view.Spec().Channel.Name, ID: "x", Source: "elsewhere", Type: view.Spec().Type(), Body: []byte(`{`)}
		if err := conn.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n > 0 || svc.Stats().Discarded != 1 {
			t.Errorf("%d messages are not settled, %d discarded", n, svc.Stats().Discarded)
		}
	})
}

func TestAnswer_that_the_broker_finds_too_large_is_told_at_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		conn.refuse(driver.ErrTooLarge, func(m *driver.Message) bool { return len(m.Body) > 1000 })
		svc := dovetail.New("catalog", conn, quick)
		reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return item{SKU: string(make([]byte, 2000))}, nil })
		svc.Declare(reserve)
		defer runBubble(t, svc)()
		begin := time.Now()
		var failed *dovetail.RemoteError
		if _, err := reserve.Request(t.Context(), svc, item{}); !errors.As(err, &failed) || time.Since(begin) > 5*time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		synctest.Wait() // the answer is sent before the message is settled
		if n := conn.unsettled(t); n > 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

func TestAnswers_go_to_reply_channels_only_and_events_have_none(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("catalog", conn, quick)
		reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		ranLow.Subscribe(svc, func(context.Context, item) error { return nil })
		other := dovetail.New("mail", conn, quick)
		welcome.On(dovetail.NewChannel("mail.other")).Handle(other, func(context.Context, item) error { return nil })
		defer runBubble(t, svc)()
		defer runBubble(t, other)()
		for _, m := range []*driver.Message{
			{Channel: reserve.Spec().Channel.Name, ID: "1", Type: reserve.Spec().Type(), ReplyTo: "requeue.mail", Body: []byte(`{}`)},
			{Channel: reserve.Spec().Channel.Name, ID: "2", Type: reserve.Spec().Type(), ReplyTo: "dead.mail", Body: []byte(`{`)},
			{Channel: ranLow.Spec().Channel.Name, ID: "3", Type: ranLow.Spec().Type(), ReplyTo: "dead.mail", Body: []byte(`{`)},
			{Channel: welcome.Spec().Channel.Name, ID: "4", Type: welcome.Spec().Type(), ReplyTo: "reply.mail." + other.Instance(), Body: []byte(`{`)},
		} {
			if err := conn.Send(t.Context(), []*driver.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		if s := svc.Stats(); s.Dead != 3 || s.LostCallers != 1 || other.Stats().LateReplies != 0 || other.Stats().Dead != 0 {
			t.Errorf("%+v, the other %+v", s, other.Stats())
		}
		dead, err := conn.Conn.(driver.Browser).Browse(t.Context(), "dead.mail", "", 10)
		if err != nil || len(dead) != 0 {
			t.Errorf("%d messages were written to another service's dead letters, %v", len(dead), err)
		}
	})
}

// Who may ask a survey or make a call cannot have the answer written to the channel
// on which another service awaits answers to its own surveys.
func TestAnswers_of_surveys_go_to_the_service_that_asks_alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		catalog, shop := dovetail.New("catalog", conn, quick), dovetail.New("shop", conn, quick)
		view.Handle(catalog, func(context.Context, string) (item, error) { return item{SKU: "mug"}, nil })
		reserve.Handle(catalog, func(_ context.Context, i item) (item, error) { return i, nil })
		var answers atomic.Int32
		view.Answers(shop, func(context.Context, dovetail.Answer[item], error) error { answers.Add(1); return nil })
		shop.Declare(view)
		defer runBubble(t, catalog)()
		defer runBubble(t, shop)()
		for i, to := range []string{"answers.shop", "answers.", "answers.shop.x"} {
			for _, c := range []dovetail.Contract{view, reserve} {
				for _, source := range []string{"stranger", "shop"} {
					if c.Spec().Type() == view.Spec().Type() && source == "shop" && to == "answers.shop" {
						continue // that is what the shop asks
					}
					m := &driver.Message{Channel: c.Spec().Channel.Name, ID: source + c.Spec().Name + to, Source: source, Type: c.Spec().Type(), ReplyTo: to, Body: []byte([]string{`"x"`, `{}`}[i%2])}
					if err := conn.Send(t.Context(), []*driver.Message{m}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		<-time.After(time.Minute)
		if n := answers.Load(); n != 0 || shop.Stats().Unhandled != 0 || shop.Stats().Dead != 0 {
			t.Errorf("%d answers came to the shop, which has not asked: %+v", n, shop.Stats())
		}
		if err := view.Ask(t.Context(), shop, "mug"); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := answers.Load(); n != 1 {
			t.Errorf("%d answers to what the shop has asked, want 1", n)
		}
	})
}
