package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// provisioned counts provisionings and has them go as the test says.
type provisioned struct {
	*scripted
	count atomic.Int32
	how   func() error
}

func (p *provisioned) Provision(ctx context.Context, c []driver.Channel, s []driver.Subscription) error {
	p.count.Add(1)
	if err := p.how(); err != nil {
		return err
	}
	return p.scripted.Provision(ctx, c, s)
}

func TestSend_ends_with_its_context_while_topology_is_provisioned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &provisioned{scripted: scriptedConn(t), how: func() error { <-time.After(5 * time.Second); return nil }}
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(welcome)
		var sending sync.WaitGroup
		for n := range 50 {
			sending.Go(func() {
				from, within := time.Now(), time.Duration(n+1)*200*time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), within)
				defer cancel()
				err := welcome.Send(ctx, svc, item{})
				took := time.Since(from)
				if within < 5*time.Second && (took != within || !errors.Is(err, context.DeadlineExceeded)) || within > 5*time.Second && (took != 5*time.Second || err != nil) {
					t.Errorf("with %v: %v after %v", within, err, took)
				}
			})
		}
		sending.Wait()
		if n := conn.count.Load(); n != 1 {
			t.Errorf("%d provisionings, want 1 for all who wait", n)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestProvisionings_that_fail_follow_each_other_slowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &provisioned{scripted: scriptedConn(t), how: func() error { return fmt.Errorf("link is down: %w", driver.ErrRetryable) }}
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(welcome)
		var sending sync.WaitGroup
		for range 200 {
			sending.Go(func() {
				if err := welcome.Send(t.Context(), svc, item{}); !errors.Is(err, driver.ErrRetryable) {
					t.Errorf("got %v", err)
				}
			})
		}
		sending.Wait()
		if n := conn.count.Load(); n > 40 {
			t.Errorf("%d provisionings in 30 s", n)
		}
	})
}

// A dead-letter channel that the broker loses again and again is not provisioned
// without a pause.
func TestChannel_that_stays_lost_is_provisioned_slowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &provisioned{scripted: scriptedConn(t), how: func() error { return nil }}
		var back atomic.Bool
		conn.refuse(driver.ErrNotFound, func(m *driver.Message) bool {
			return m.Channel == dovetail.DeadLetterChannel("mail") && !back.Load()
		})
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return errors.New("no") })
		svc.Declare(welcome)
		stop := runBubble(t, svc)
		before := conn.count.Load()
		if err := welcome.SendAll(t.Context(), svc, make([]item, 100)); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		if n := conn.count.Load() - before; n == 0 || n > 20 {
			t.Errorf("%d provisionings in 5 s", n)
		}
		back.Store(true)
		<-time.After(time.Minute)
		if n := svc.Stats().Dead; n != 100 {
			t.Errorf("%d dead letters", n)
		}
		stop()
	})
}

func TestProvisioning_that_is_refused_fails_all_who_wait_and_comes_right_later(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := driver.ErrDenied
		conn := &provisioned{scripted: scriptedConn(t), how: func() error { <-time.After(time.Second); return why }}
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(welcome)
		var sending sync.WaitGroup
		for range 20 {
			sending.Go(func() {
				if err := welcome.Send(t.Context(), svc, item{}); !errors.Is(err, driver.ErrDenied) {
					t.Errorf("got %v", err)
				}
			})
		}
		sending.Wait()
		if n := conn.count.Load(); n != 1 {
			t.Errorf("%d provisionings", n)
		}
		why = nil
		<-time.After(time.Second)
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Error(err)
		}
	})
}
