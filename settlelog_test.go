package dovetail_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// slippery is a transport whose receivers cannot settle while it is broken.
type slippery struct {
	*scripted
	broken atomic.Bool
}

func (u *slippery) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := u.scripted.OpenReceiver(ctx, s)
	return &slipperyReceiver{r, u}, err
}

type slipperyReceiver struct {
	driver.Receiver
	u *slippery
}

func (r *slipperyReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if r.u.broken.Load() {
		return fmt.Errorf("link is down: %w", driver.ErrRetryable)
	}
	return r.Receiver.Settle(ctx, s)
}

func TestLog_has_one_line_for_settlements_that_fail_in_many_groups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slippery{scripted: scriptedConn(t)}
		var log lines
		svc := dovetail.New("mail", conn, dovetail.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var handled atomic.Int64
		const groups = 20
		for i := range groups {
			ranLow.Subscribe(svc, func(context.Context, item) error { handled.Add(1); return nil }, dovetail.Group(fmt.Sprint("g", i)))
		}
		svc.Declare(ranLow)
		stop := runBubble(t, svc)
		conn.broken.Store(true)
		if err := ranLow.Publish(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Second)
		if n := len(log.with("msg=settle")); n != 1 || handled.Load() < groups {
			t.Errorf("%d lines for %d groups that handled %d", n, groups, handled.Load())
		}
		conn.broken.Store(false)
		<-time.After(time.Minute)
		stop()
	})
}
