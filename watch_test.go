package dovetail_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// backlogged is a fake: its receivers of one channel say what their backlog is,
// and the deaf ones deliver nothing.
type backlogged struct {
	driver.Conn
	channel string
	backlog func() int64
	deaf    atomic.Bool // those that are opened now
	opened  atomic.Int32
}

type backloggedReceiver struct {
	driver.Receiver
	c    *backlogged
	deaf bool
}

func (c *backlogged) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.Conn.OpenReceiver(ctx, s)
	if err != nil || s.Channel.Name != c.channel {
		return r, err
	}
	c.opened.Add(1)
	return &backloggedReceiver{r, c, c.deaf.Load()}, nil
}

func (r *backloggedReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return r.Receiver.Receive(ctx, max)
}

func (r *backloggedReceiver) Backlog(ctx context.Context) (int64, error) {
	if r.c.backlog != nil {
		return r.c.backlog(), nil
	}
	return r.Receiver.(driver.Backlogger).Backlog(ctx)
}

func TestReceiver_with_nothing_to_do_is_not_opened_anew_for_ever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// What waits is for another instance of the group, which is slow.
		conn := &backlogged{Conn: scriptedConn(t).Conn, channel: welcome.Spec().Channel.Name, backlog: func() int64 { return 5 }}
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		<-time.After(24 * time.Hour)
		if n := conn.opened.Load(); n > 40 {
			t.Errorf("opened %d times in a day", n)
		}
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		before := conn.opened.Load()
		<-time.After(10 * time.Minute)
		if conn.opened.Load() == before {
			t.Error("once it has delivered something, the next stall is to be noticed as soon as the first")
		}
	})
}

func TestReceiver_is_not_stalled_by_a_message_that_has_just_come(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Each look at the backlog sees one that is about to be delivered.
		var looks atomic.Int32
		conn := &backlogged{Conn: scriptedConn(t).Conn, channel: welcome.Spec().Channel.Name}
		conn.backlog = func() int64 { return int64(looks.Add(1) % 2) }
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		defer runBubble(t, svc)()
		<-time.After(time.Hour)
		if n := svc.Stats().Stalls; n > 0 || looks.Load() < 10 {
			t.Errorf("%d stalls in %d looks", n, looks.Load())
		}
	})
}

func TestReceiver_of_replies_that_stalls_is_opened_anew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.Instance = "one"
		conn := &backlogged{Conn: scriptedConn(t).Conn, channel: "reply.catalog.one"}
		conn.deaf.Store(true)
		svc := dovetail.New("catalog", conn, opts)
		reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
		svc.Declare(reserve)
		defer runBubble(t, svc)()
		conn.deaf.Store(false)
		if _, err := reserve.Request(t.Context(), svc, item{}, dovetail.Within(10*time.Minute)); err != nil {
			t.Error(err)
		}
	})
}
