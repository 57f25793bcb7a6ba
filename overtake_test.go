package dovetail_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// healing is a fake: a transport in memory whose links are lost and come back
// within Receive, as those of RabbitMQ do. What is unsettled is delivered again.
type healing struct {
	*scripted
	mu   sync.Mutex
	lose context.CancelFunc
}

func (c *healing) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	return &healingReceiver{Receiver: r, c: c, s: s}, err
}

// cut has the links be lost.
func (c *healing) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
}

type healingReceiver struct {
	driver.Receiver // of the present link
	c               *healing
	s               driver.Subscription
}

func (r *healingReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.s.Channel.Name != welcome.Spec().Channel.Name {
		return r.Receiver.Receive(ctx, max)
	}
	for {
		link, lose := context.WithCancel(ctx)
		r.c.mu.Lock()
		r.c.lose = lose
		r.c.mu.Unlock()
		ds, err := r.Receiver.Receive(link, max)
		if err == nil || ctx.Err() != nil {
			return ds, err
		}
		if err := r.Receiver.Close(ctx); err != nil {
			return nil, err
		}
		if r.Receiver, err = r.c.scripted.OpenReceiver(ctx, r.s); err != nil {
			return nil, err
		}
	}
}

// A message that is delivered again while it is handled, and then fails, is tried
// again before the later ones of its key, which were in hand all the time.
func TestMessage_that_is_delivered_again_while_it_is_handled_and_fails_is_not_overtaken(t *testing.T) {
	for _, test := range []struct {
		name   string
		copied bool
		fail   error
	}{
		{name: "it fails", fail: errors.New("no")},
		{name: "its handler cannot begin", fail: dovetail.NotBegun(errors.New("no"))},
		{name: "a copy of it waits behind the others", copied: true, fail: errors.New("no")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &healing{scripted: scriptedConn(t)}
				opts := quick
				opts.Retry = dovetail.RetryPolicy{Attempts: 5, First: 3 * time.Second, Factor: 1, Jitter: -1}
				svc := dovetail.New("mail", conn, opts)
				keyed := welcome.Keyed(func(i item) string { return i.SKU })
				svc.Declare(keyed)
				var mu sync.Mutex
				var handled []int
				failed := false
				keyed.Handle(svc, func(_ context.Context, i item) error {
					<-time.After(10 * time.Second)
					mu.Lock()
					defer mu.Unlock()
					if i.Count == 0 && !failed {
						failed = true
						return test.fail
					}
					if !slices.Contains(handled, i.Count) {
						handled = append(handled, i.Count)
					}
					return nil
				})
				defer runBubble(t, svc)()
				for n := range 4 {
					if err := keyed.Send(t.Context(), svc, item{SKU: "k", Count: n}, dovetail.ID(strconv.Itoa(n))); err != nil {
						t.Fatal(err)
					}
				}
				if test.copied {
					if err := keyed.Send(t.Context(), svc, item{SKU: "k"}, dovetail.ID("0")); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 { // while the first is handled
					<-time.After(3 * time.Second)
					conn.cut()
				}
				<-time.After(5 * time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if !slices.Equal(handled, []int{0, 1, 2, 3}) {
					t.Errorf("handled in the order %v", handled)
				}
				if n := conn.unsettled(t); n != 0 {
					t.Errorf("%d messages are not settled", n)
				}
			})
		})
	}
}
