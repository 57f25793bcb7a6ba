package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// refusing has receivers, and their opening, refused while the test says so.
type refusing struct {
	driver.Conn
	why atomic.Pointer[error]
}

func (c *refusing) refuse(err error) { c.why.Store(&err) }

func (c *refusing) err() error {
	if why := c.why.Load(); why != nil {
		return *why
	}
	return nil
}

func (c *refusing) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	r, err := c.Conn.OpenReceiver(ctx, s)
	return &refusingReceiver{r, c}, err
}

type refusingReceiver struct {
	driver.Receiver
	c *refusing
}

func (r *refusingReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	got, err := r.Receiver.Receive(ctx, max)
	if refused := r.c.err(); refused != nil {
		return nil, errors.Join(refused)
	}
	return got, err
}

func TestRun_goes_on_when_it_is_refused_after_its_start(t *testing.T) {
	for _, why := range []error{driver.ErrDenied, driver.ErrConflict, driver.ErrUnsupported} {
		t.Run(why.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &refusing{Conn: scriptedConn(t).Conn}
				svc := dovetail.New("mail", conn, quick)
				var handled atomic.Int32
				welcome.Handle(svc, func(context.Context, item) error { handled.Add(1); return nil })
				svc.Declare(welcome)
				stop := runBubble(t, svc)
				conn.refuse(fmt.Errorf("the operator took it away: %w", why))
				if err := welcome.SendAll(t.Context(), svc, make([]item, 3)); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Minute)
				if handled.Load() != 0 {
					t.Errorf("%d handled", handled.Load())
				}
				conn.refuse(nil)
				<-time.After(time.Minute)
				if handled.Load() != 3 {
					t.Errorf("%d of 3 handled after the right was given back", handled.Load())
				}
				stop()
			})
		})
	}
}

func TestRun_ends_when_it_is_refused_at_its_start(t *testing.T) {
	for _, why := range []error{driver.ErrDenied, driver.ErrConflict, driver.ErrUnsupported} {
		conn := &refusing{Conn: scriptedConn(t).Conn}
		conn.refuse(why)
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		if err := svc.Run(t.Context()); !errors.Is(err, why) {
			t.Errorf("got %v, want %v", err, why)
		}
	}
}
