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

// recounting is a fake: a transport in memory that says of every delivery that
// it is not the first.
type recounting struct {
	*scripted
	again atomic.Bool
}

func (c *recounting) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	return &recountingReceiver{r, c}, err
}

type recountingReceiver struct {
	driver.Receiver
	c *recounting
}

func (r *recountingReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	ds, err := r.Receiver.Receive(ctx, max)
	if r.c.again.Load() {
		for _, d := range ds {
			d.Attempt = 2
		}
	}
	return ds, err
}

// A sender that did not hear of its confirmation sends again under the same id.
// Both copies are settled, also where one comes while the other waits.
func TestCopies_of_one_message_are_both_settled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &recounting{scripted: scriptedConn(t)}
		opts := quick
		svc := dovetail.New("mail", conn, opts)
		keyed := welcome.Keyed(func(i item) string { return i.SKU })
		svc.Declare(keyed)
		var handled atomic.Int32
		keyed.Handle(svc, func(context.Context, item) error {
			handled.Add(1)
			<-time.After(10 * time.Second)
			return nil
		})
		defer runBubble(t, svc)()
		if err := keyed.Send(t.Context(), svc, item{SKU: "k"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		copied := driver.Message{Channel: "mail.welcome", Type: "mail.welcome.v1", ID: "1", Source: "shop", Key: "k", Time: time.Now().UTC(), Body: []byte(`{}`)}
		copied.Channel, copied.Type = keyed.Spec().Channel.Name, keyed.Spec().Type()
		for range 2 {
			m := copied
			if err := conn.Conn.Send(t.Context(), []*driver.Message{&m}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			conn.again.Store(true)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled, %d were handled", n, handled.Load())
		}
	})
}

// What is requeued and waits behind its key may be delivered again meanwhile.
func TestLetter_that_waits_and_is_delivered_again_is_handled_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &recounting{scripted: scriptedConn(t)}
		svc := dovetail.New("mail", conn, quick)
		keyed := welcome.Keyed(func(i item) string { return i.SKU })
		svc.Declare(keyed)
		var handled atomic.Int32
		keyed.Handle(svc, func(context.Context, item) error {
			handled.Add(1)
			<-time.After(10 * time.Second)
			return nil
		})
		defer runBubble(t, svc)()
		if err := keyed.Send(t.Context(), svc, item{SKU: "k"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		letter := dovetail.DeadLetter{
			Message: &driver.Message{Channel: keyed.Spec().Channel.Name, Type: keyed.Spec().Type(), ID: "1", Source: "shop", Key: "k", Time: time.Now().UTC(), Body: []byte(`{}`)},
			Service: "mail", Group: "mail", Handler: keyed.Spec().Type(),
		}
		for range 2 {
			if err := conn.Conn.Send(t.Context(), []*driver.Message{letter.Requeue()}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			conn.again.Store(true)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 || handled.Load() != 2 {
			t.Errorf("%d messages are not settled, %d were handled", n, handled.Load())
		}
	})
}

func TestCopy_of_a_message_that_fails_settles_both(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &recounting{scripted: scriptedConn(t)}
		conn.again.Store(true)
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(welcome)
		var attempts atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error {
			<-time.After(10 * time.Second)
			if attempts.Add(1) == 1 {
				return errors.New("not yet")
			}
			return nil
		})
		defer runBubble(t, svc)()
		for range 2 {
			m := driver.Message{Channel: welcome.Spec().Channel.Name, Type: welcome.Spec().Type(), ID: "1", Source: "shop", Time: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Body: []byte(`{}`)}
			if err := conn.Conn.Send(t.Context(), []*driver.Message{&m}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 || attempts.Load() != 2 {
			t.Errorf("%d messages are not settled, %d attempts", n, attempts.Load())
		}
	})
}
