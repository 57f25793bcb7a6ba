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
)

var errNoDatabase = dovetail.NotBegun(errors.New("no database"))

// The message that was let through to try may lose its partition meanwhile. The
// others try after it.
func TestOutage_ends_although_the_message_that_tried_lost_its_partition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.RevokeTimeout = time.Second
		svc, r := rebalanced(t, opts)
		inPartitions(r)
		keyed := welcome.Keyed(func(i item) string { return i.SKU })
		svc.Declare(keyed)
		var away atomic.Bool
		away.Store(true)
		var handled, trying atomic.Int32
		keyed.Handle(svc, func(_ context.Context, i item) error {
			trying.Store(int32(i.Count))
			if away.Load() {
				<-time.After(5 * time.Second) // it takes long to find out
				return errNoDatabase
			}
			handled.Add(1)
			return nil
		}, dovetail.Concurrency(1))
		defer runBubble(t, svc)()
		for n := range 2 {
			if err := keyed.Send(t.Context(), svc, item{fmt.Sprint(n), n}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(7 * time.Second) // the second is let through
		r.lost <- []int{int(trying.Load())}
		<-r.released
		away.Store(false)
		<-time.After(time.Minute)
		if handled.Load() != 1 {
			t.Errorf("%d messages were handled, want 1", handled.Load())
		}
	})
}

// A message that no handler gets says nothing of whether handlers can begin.
func TestOutage_is_not_over_because_of_messages_that_reach_no_handler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over, alone atomic.Int32
		opts := quick
		opts.Limits.Body = 100
		opts.Hooks.Notice = func(n dovetail.Notice) {
			switch {
			case n.Kind == dovetail.NoticeOutageOver:
				over.Add(1)
			case n.Kind == dovetail.NoticeNotBegun && n.Count > 0:
				alone.Add(1)
			}
		}
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn.Conn, opts)
		stranger := dovetail.New("stranger", conn.Conn, quick)
		stranger.Declare(welcome)
		var away atomic.Bool
		away.Store(true)
		var handled atomic.Int32
		welcome.Handle(svc, func(_ context.Context, i item) error {
			if away.Load() {
				return errNoDatabase
			}
			handled.Add(1)
			return nil
		}, dovetail.Concurrency(1))
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		for range 10 {
			if err := welcome.Send(t.Context(), svc, item{}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		for range 5 {
			if err := welcome.Send(t.Context(), stranger, item{SKU: string(make([]byte, 50))}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
		}
		if over.Load() != 0 || alone.Load() != 0 {
			t.Errorf("the outage was over %d times, and %d messages took the blame", over.Load(), alone.Load())
		}
		away.Store(false)
		<-time.After(time.Minute)
		if handled.Load() != 10 || over.Load() != 1 || svc.Stats().Dead != 5 {
			t.Errorf("%d handled, over %d times, %d dead letters", handled.Load(), over.Load(), svc.Stats().Dead)
		}
	})
}

// A broadcast has a group of its own, and so an outage of it stops no other
// handler of the same event.
func TestOutage_of_a_broadcast_handler_stops_no_other_of_the_event(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn.Conn, quick)
		svc.Declare(ranLow)
		var away atomic.Bool
		away.Store(true)
		var heard, handled atomic.Int32
		ranLow.Subscribe(svc, func(context.Context, item) error {
			if away.Load() {
				return errNoDatabase
			}
			heard.Add(1)
			return nil
		}, dovetail.Broadcast())
		ranLow.Subscribe(svc, func(context.Context, item) error { handled.Add(1); return nil })
		defer runBubble(t, svc)()
		for i := range 50 {
			if err := ranLow.Publish(t.Context(), svc, item{"a", i}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Hour)
		if handled.Load() != 50 {
			t.Errorf("%d of 50 were handled", handled.Load())
		}
		away.Store(false)
		<-time.After(time.Minute)
		if heard.Load() != 50 || svc.Stats().Stalls != 0 {
			t.Errorf("%d of 50 were heard, %d stalls", heard.Load(), svc.Stats().Stalls)
		}
	})
}
