package dovetail_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// failing is a component that fails when it is told to.
type failing chan error

func (f failing) Run(ctx context.Context) error {
	select {
	case err := <-f:
		return err
	case <-ctx.Done():
		return nil
	}
}

func TestRun_ends_when_a_component_fails_although_nothing_is_received(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := dovetail.New("mail", scriptedConn(t), quick)
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		relay := make(failing, 1)
		svc.Attach(relay)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		broken := errors.New("broken")
		relay <- broken
		select {
		case err := <-ended:
			if !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		case <-time.After(time.Hour):
			t.Error("Run goes on")
			cancel()
			<-ended
		}
	})
}

func TestDrain_lets_handlers_await_their_replies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		catalog, mail := dovetail.New("catalog", conn, quick), dovetail.New("mail", conn, quick)
		reserve.Handle(catalog, func(_ context.Context, i item) (item, error) {
			<-time.After(time.Second)
			return i, nil
		})
		mail.Declare(welcome, reserve)
		begun, result := make(chan struct{}), make(chan error, 1)
		welcome.Handle(mail, func(ctx context.Context, i item) error {
			close(begun)
			_, err := reserve.Request(ctx, mail, i)
			result <- err
			return err
		})
		defer runBubble(t, catalog)()
		stop := runBubble(t, mail)
		if err := welcome.Send(t.Context(), mail, item{}); err != nil {
			t.Fatal(err)
		}
		<-begun
		stop()
		if err := <-result; err != nil {
			t.Error(err)
		}
		if n := conn.opened["reply.mail."+mail.Instance()]; n != 1 {
			t.Errorf("the receiver of replies was opened %d times: what came in between is lost", n)
		}
	})
}

func TestRequest_does_not_outlive_Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := dovetail.New("mail", scriptedConn(t), quick)
		svc.Declare(reserve, view)
		stop := runBubble(t, svc)
		from := time.Now()
		results := make(chan error, 2)
		go func() {
			_, err := reserve.Request(t.Context(), svc, item{})
			results <- err
		}()
		go func() {
			for _, err := range view.Gather(t.Context(), svc, "x") {
				results <- err
			}
		}()
		synctest.Wait()
		stop()
		for range 2 {
			if err := <-results; !errors.Is(err, dovetail.ErrNotRunning) || time.Since(from) > time.Second {
				t.Errorf("got %v after %v", err, time.Since(from))
			}
		}
	})
}

func TestHandler_that_fails_because_the_service_ends_is_not_a_dead_letter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.DrainTimeout, opts.Retry.Attempts = time.Second, 1
		svc := dovetail.New("mail", scriptedConn(t), opts)
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			<-ctx.Done()
			return errors.New("cut short")
		})
		svc.Declare(welcome)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		if err := welcome.Send(ctx, svc, item{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		<-ended
		if n := svc.Stats().Dead; n != 0 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// dutiful is a fake: as a server's client does, it settles and sends nothing
// with a context that has ended.
type dutiful struct{ *scripted }

type dutifulReceiver struct{ driver.Receiver }

func (c dutiful) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	return dutifulReceiver{r}, err
}

func (r dutifulReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.Receiver.Settle(ctx, s)
}

func TestDrain_settles_what_ends_well_when_its_context_is_cancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.DrainTimeout = time.Second
		conn := dutiful{scriptedConn(t)}
		svc := dovetail.New("mail", conn, opts)
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			<-ctx.Done() // time to come to an end
			return nil
		})
		svc.Declare(welcome)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		<-svc.Ready()
		if err := welcome.Send(ctx, svc, item{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		<-ended
		if n := conn.unsettled(t); n != 0 || svc.Stats().Handled != 1 {
			t.Errorf("%d messages are not settled, %d handled", n, svc.Stats().Handled)
		}
	})
}

// telling is a fake: a transport in memory that tells of each Receive of one
// channel that is called although its context has ended.
type telling struct {
	*scripted
	channel string
	ended   chan struct{}
}

func (c *telling) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	if s.Channel.Name == c.channel {
		r = &tellingReceiver{r, c}
	}
	return r, err
}

type tellingReceiver struct {
	driver.Receiver
	c *telling
}

func (r *tellingReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if ctx.Err() != nil {
		r.c.ended <- struct{}{}
	}
	return r.Receiver.Receive(ctx, max)
}

// A transport may have asked its broker for more: it withdraws that when a
// Receive ends with its context, and so there must be one.
func TestReceiver_is_told_of_the_end_while_all_its_room_is_taken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &telling{scripted: scriptedConn(t), channel: welcome.Spec().Channel.Name, ended: make(chan struct{}, 1)}
		svc := dovetail.New("mail", conn, dovetail.Options{Window: 4, Concurrency: 1})
		begun, end := make(chan struct{}), make(chan struct{})
		var once sync.Once
		welcome.Handle(svc, func(context.Context, item) error {
			once.Do(func() { close(begun) })
			<-end
			return nil
		})
		svc.Declare(welcome)
		stop := runBubble(t, svc)
		for range 6 {
			if err := welcome.Send(t.Context(), svc, item{}); err != nil {
				t.Fatal(err)
			}
		}
		<-begun
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		synctest.Wait()
		select {
		case <-conn.ended:
		default:
			t.Error("the receiver was not told while the handler runs")
		}
		close(end)
		<-stopped
	})
}
