package dovetail_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
)

func TestWorkers_start_as_they_are_needed_and_end_when_they_have_nothing_to_do(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := dovetail.New("mail", scriptedConn(t), quick)
		var at, most atomic.Int32
		for n := range 50 {
			c := dovetail.NewEvent[item](fmt.Sprintf("catalog.event-%d", n))
			c.Subscribe(svc, func(context.Context, item) error { return nil })
		}
		welcome.Handle(svc, func(context.Context, item) error {
			most.Store(max(most.Load(), at.Add(1)))
			<-time.After(time.Second)
			at.Add(-1)
			return nil
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		idle := runtime.NumGoroutine()
		if idle > 60*7 {
			t.Errorf("%d goroutines for 51 subscriptions without a message", idle)
		}
		if err := welcome.SendAll(t.Context(), svc, make([]item, 100)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if n := most.Load(); n != 16 {
			t.Errorf("%d handlers ran at once, want 16", n)
		}
		if n := runtime.NumGoroutine(); n > idle+1 {
			t.Errorf("%d goroutines a while after, want the %d that there were before", n, idle)
		}
		if err := welcome.SendAll(t.Context(), svc, make([]item, 100)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := svc.Stats().Handled; n != 200 {
			t.Errorf("%d handled, want 200", n)
		}
	})
}
