package dovetail_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// heard counts what a broadcast subscription is given.
type heard struct {
	mu   sync.Mutex
	of   map[int]int
	slow time.Duration
}

func (h *heard) handle(_ context.Context, i item) error {
	h.mu.Lock()
	h.of[i.Count]++
	h.mu.Unlock()
	if h.slow > 0 {
		<-time.After(h.slow)
	}
	return nil
}

func TestBroadcast_goes_on_where_its_last_receiver_was(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		svc := dovetail.New("mail", conn, quick)
		h := &heard{of: map[int]int{}, slow: 100 * time.Millisecond}
		ranLow.Subscribe(svc, h.handle, dovetail.Broadcast(), dovetail.Concurrency(2))
		svc.Declare(ranLow)
		stop := runBubble(t, svc)
		const n = 300
		for i := range n {
			if err := ranLow.Publish(t.Context(), svc, item{fmt.Sprint(i), i}); err != nil {
				t.Fatal(err)
			}
			if i%60 == 30 {
				conn.broken.Store(true)
			}
			<-time.After(50 * time.Millisecond)
		}
		<-time.After(time.Minute)
		h.mu.Lock()
		for i := range n {
			if h.of[i] != 1 {
				t.Errorf("message %d was handled %d times", i, h.of[i])
			}
		}
		h.mu.Unlock()
		if opened := conn.openings(ranLow.Spec().Channel.Name); opened < 4 {
			t.Errorf("opened %d times", opened)
		}
		stop()
		channels, err := conn.Conn.(driver.Lister).Channels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range channels {
			if c.Channel.Name == ranLow.Spec().Channel.Name && len(c.Groups) > 0 {
				t.Errorf("groups %v are left", c.Groups)
			}
		}
	})
}

// forgetful is a fake: a transport in memory that forgets the groups of
// broadcast subscriptions when the test says so.
type forgetful struct {
	*copying
	tell atomic.Bool // Receive returns ErrPositionLost
	subs []driver.Subscription
}

type forgetfulReceiver struct {
	driver.Receiver
	c *forgetful
}

func (c *forgetful) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	c.mu.Lock()
	if s.Broadcast {
		c.subs = append(c.subs, s)
	}
	c.mu.Unlock()
	r, err := c.copying.OpenReceiver(ctx, s)
	if err != nil || !s.Broadcast {
		return r, err
	}
	return &forgetfulReceiver{r, c}, nil
}

func (r *forgetfulReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.c.tell.CompareAndSwap(true, false) {
		return nil, driver.ErrPositionLost
	}
	return r.Receiver.Receive(ctx, max)
}

func TestBroadcast_whose_group_is_gone_goes_on_from_now(t *testing.T) {
	for _, how := range []string{"open", "receive"} {
		synctest.Test(t, func(t *testing.T) {
			conn := &forgetful{copying: &copying{scripted: scriptedConn(t)}}
			opts := quick
			var lost atomic.Int32
			opts.Hooks.Notice = func(n dovetail.Notice) {
				if n.Kind == dovetail.NoticePositionLost {
					lost.Add(1)
				}
			}
			svc := dovetail.New("mail", conn, opts)
			h := &heard{of: map[int]int{}}
			ranLow.Subscribe(svc, h.handle, dovetail.Broadcast())
			svc.Declare(ranLow)
			defer runBubble(t, svc)()
			if how == "open" {
				conn.mu.Lock()
				first := conn.subs[0]
				conn.mu.Unlock()
				if err := conn.Conn.(driver.Remover).RemoveGroup(t.Context(), first.Channel.Name, first.GroupName()); err != nil {
					t.Fatal(err)
				}
			} else {
				conn.tell.Store(true)
			}
			<-time.After(10 * time.Second)
			if err := ranLow.Publish(t.Context(), svc, item{"x", 1}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.of[1] != 1 || lost.Load() != 1 {
				t.Errorf("%s: handled %d times, %d notices of a lost position, want 1 each", how, h.of[1], lost.Load())
			}
			conn.mu.Lock()
			defer conn.mu.Unlock()
			if conn.subs[0].Resume || !conn.subs[1].Resume && how == "open" || !slices.ContainsFunc(conn.subs[1:], func(s driver.Subscription) bool { return !s.Resume }) {
				t.Errorf("%s: opened with %v", how, conn.subs)
			}
		})
	}
}

func TestOutage_of_the_broker_is_one_line_and_one_when_it_is_over(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		opts := quick
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		svc, f := flakyService(t, opts)
		for n := range 500 {
			c := dovetail.NewEvent[item](fmt.Sprintf("catalog.event-%d", n))
			c.Subscribe(svc, func(context.Context, item) error { return nil })
		}
		defer runBubble(t, svc)()
		for range 2 {
			log.Reset()
			f.interrupt()
			<-time.After(22 * time.Second)
			f.away.Store(false)
			<-time.After(30 * time.Second)
			synctest.Wait()
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != 2 || !strings.Contains(lines[0], "msg=outage ") || !strings.Contains(lines[1], "msg=outage-over") || !strings.Contains(lines[1], "count=50") {
				t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines[:min(5, len(lines))], "\n"))
			}
		}
	})
}
