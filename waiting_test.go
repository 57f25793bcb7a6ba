package dovetail_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// A waiting channel that is given up during an outage, and looked for again, is
// not counted among those that cannot reach the broker.
func TestOutage_of_the_broker_is_over_although_a_waiting_channel_was_given_up(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, over atomic.Int32
		opts := quick
		opts.Instance = "new"
		opts.Hooks.Notice = func(n dovetail.Notice) {
			switch n.Kind {
			case dovetail.NoticeOutage:
				began.Add(1)
			case dovetail.NoticeOutageOver:
				over.Add(1)
			}
		}
		conn := scriptedConn(t)
		f := &flaky{Conn: conn.Conn}
		opts2 := quick
		opts2.Instance = "old"
		old := dovetail.New("billing", conn.Conn, opts2)
		billV1.Handle(old, func(context.Context, item) error { return nil })
		old.Declare(billV2)
		stopOld := runBubble(t, old)
		if err := billV2.Send(t.Context(), old, item{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stopOld()
		svc := dovetail.New("billing", f, opts)
		billV2.Handle(svc, func(context.Context, item) error { return nil })
		defer runBubble(t, svc)()
		<-time.After(time.Minute)
		if svc.Stats().Handled != 1 {
			t.Fatal("the waiting channel was not opened")
		}
		for n := range int32(2) {
			f.interrupt()
			<-time.After(5 * time.Minute)
			f.away.Store(false)
			<-time.After(5 * time.Minute)
			if b, o := began.Load(), over.Load(); b != n+1 || o != n+1 {
				t.Errorf("%d outages began and %d are over, want %d", b, o, n+1)
			}
		}
	})
}

// slowToProvision is a fake: a transport in memory that cannot provision waiting
// channels, and takes its time to say so.
type slowToProvision struct {
	*scripted
	slow atomic.Bool
}

func (c *slowToProvision) Provision(ctx context.Context, channels []driver.Channel, subs []driver.Subscription) error {
	if c.slow.Load() && len(channels) > 0 && strings.HasPrefix(channels[0].Name, "unhandled.") {
		select {
		case <-time.After(20 * time.Second):
		case <-ctx.Done():
		}
		return driver.ErrRetryable
	}
	return c.scripted.Provision(ctx, channels, subs)
}

func TestWaitingChannel_that_cannot_be_provisioned_holds_up_dead_letters_for_a_short_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowToProvision{scripted: scriptedConn(t)}
		conn.slow.Store(true)
		svc := dovetail.New("billing", conn, quick)
		billV1.Handle(svc, func(context.Context, item) error { return dovetail.Permanent(errors.New("no")) })
		svc.Declare(billV1, billV2)
		defer runBubble(t, svc)()
		for range 50 {
			if err := billV2.Send(t.Context(), svc, item{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if err := billV1.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		if n := svc.Stats().Dead; n != 1 {
			t.Errorf("%d dead letters, want 1", n)
		}
		conn.slow.Store(false)
		<-time.After(2 * time.Minute)
		if n, w := conn.unsettled(t), svc.Stats().Unhandled; n != 50 || w != 50 {
			t.Errorf("%d messages are not settled, and %d wait", n, w)
		}
	})
}
