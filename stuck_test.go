package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

// only is what is stuck in one way, which must be so once.
func only(t *testing.T, svc *dovetail.Service, kind dovetail.StuckKind) (found dovetail.Stuck) {
	t.Helper()
	n := 0
	for _, s := range svc.Stuck() {
		if s.Kind == kind {
			found = s
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d things are stuck as %s, want one of %+v", n, kind, svc.Stuck())
	}
	return found
}

func TestStuck_tells_of_keys_that_are_held_and_handlers_that_run_long(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("mail")
		var broken atomic.Bool
		broken.Store(true)
		hung := make(chan struct{})
		ranLow.Subscribe(svc, func(_ context.Context, i item) error {
			switch {
			case i.SKU == "held" && broken.Load():
				return errors.New("the printer is out of paper")
			case i.SKU == "hung":
				<-hung
			}
			return nil
		}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 9, First: time.Minute, Max: time.Minute, Factor: 1, Jitter: -1}))
		svc.Declare(ranLow)
		h.Start()
		began := time.Now()
		if err := ranLow.PublishAll(t.Context(), svc, []item{{"held", 1}, {"held", 2}, {"held", 3}, {"hung", 1}, {"fine", 1}}); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		held := only(t, svc, dovetail.StuckHeld)
		if held.Key != "held" || held.Count != 3 || held.Attempt != 1 || !held.Since.Equal(began) || held.Next.Sub(began) != time.Minute || held.Err != "the printer is out of paper" ||
			held.Channel != "catalog.stock-ran-low" || held.Group != "mail" {
			t.Errorf("held: %+v", held)
		}
		if s := svc.Stats(); s.Held != 3 || s.InHand != 4 || s.Handled != 1 {
			t.Errorf("%+v", s)
		}
		h.Advance(50 * time.Second)
		if r := only(t, svc, dovetail.StuckRunning); r.Key != "hung" || r.Count != 1 || r.Since.Sub(began) > 15*time.Second {
			t.Errorf("running: %+v", r)
		}
		broken.Store(false)
		close(hung)
		h.Advance(time.Minute)
		if all, s := svc.Stuck(), svc.Stats(); len(all) != 0 || s.Held != 0 || s.InHand != 0 {
			t.Errorf("%+v, %+v", all, s)
		}
	})
}

func TestStuck_tells_of_handlers_that_cannot_begin(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("mail")
		var away atomic.Bool
		away.Store(true)
		welcome.Handle(svc, func(context.Context, item) error {
			if away.Load() {
				return dovetail.NotBegun(errors.New("the database is away"))
			}
			return nil
		})
		svc.Declare(welcome)
		h.Start()
		if err := welcome.SendAll(t.Context(), svc, make([]item, 5)); err != nil {
			t.Fatal(err)
		}
		h.Advance(10 * time.Second)
		if o := only(t, svc, dovetail.StuckOutage); o.Count < 4 || o.Err != "the database is away" || o.Group != "mail" || time.Since(o.Since) < 9*time.Second {
			t.Errorf("%+v", o)
		}
		away.Store(false)
		h.Advance(10 * time.Second)
		if all := svc.Stuck(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

func TestStuck_tells_of_partitions_that_wait_for_handlers_that_had_begun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, r := rebalanced(t, quick)
		done := make(chan struct{})
		welcome.Handle(svc, func(context.Context, item) error { <-done; return nil }, dovetail.Concurrency(2))
		defer runBubble(t, svc)()
		if err := welcome.SendAll(t.Context(), svc, make([]item, 2)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		lost := time.Now()
		r.lost <- []int{0}
		<-time.After(time.Second)
		if l := only(t, svc, dovetail.StuckLeaving); l.Count != 2 || !l.Since.Equal(lost) || l.Channel != welcome.Spec().Channel.Name || l.Group != "mail" {
			t.Errorf("%+v, lost at %v", l, lost)
		}
		close(done)
		<-r.released
		if all := svc.Stuck(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

func TestStuck_tells_of_receivers_that_do_not_reach_the_broker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, r := rebalanced(t, quick)
		var away atomic.Bool
		leaves := make(chan struct{})
		r.receive = func(ctx context.Context, max int) ([]*driver.Delivery, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if !away.Load() {
				go func() {
					select {
					case <-leaves:
						cancel()
					case <-ctx.Done():
					}
				}()
				ds, err := r.Receiver.Receive(ctx, max)
				if !away.Load() {
					return ds, err
				}
			}
			return nil, fmt.Errorf("dial: %w", driver.ErrRetryable)
		}
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		defer runBubble(t, svc)()
		<-time.After(time.Minute)
		if all := svc.Stuck(); len(all) != 0 {
			t.Errorf("%+v, and the broker is there", all)
		}
		away.Store(true)
		leaves <- struct{}{}
		gone := time.Now()
		<-time.After(time.Minute)
		if o := only(t, svc, dovetail.StuckOutage); o.Count != 1 || o.Since != gone || !strings.Contains(o.Err, "dial") {
			t.Errorf("%+v, gone at %v", o, gone)
		}
		away.Store(false)
		<-time.After(time.Minute)
		if all := svc.Stuck(); len(all) != 0 {
			t.Errorf("%+v, and the broker is back", all)
		}
	})
}

// lines keeps what is logged as warnings and above.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if strings.Contains(s, text) {
			found = append(found, s)
		}
	}
	return found
}

func TestUnsent_dead_letters_are_one_line_with_a_count_and_a_remedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		var full atomic.Bool
		full.Store(true)
		why := fmt.Errorf("channel dead.mail is full: %w", driver.ErrRetryable)
		conn.send = func(ctx context.Context, ms []*driver.Message) error {
			var se driver.SendError
			for i, m := range ms {
				if full.Load() && m.Channel == "dead.mail" {
					se.Fail(i, why, false)
				} else if err := conn.Conn.Send(ctx, ms[i:i+1]); err != nil {
					se.Fail(i, err, false)
				}
			}
			return se.OrNil()
		}
		var log lines
		svc := dovetail.New("mail", conn, dovetail.Options{Logger: slog.New(slog.NewTextHandler(io.Writer(&log), nil))})
		welcome.Handle(svc, func(context.Context, item) error { return dovetail.Permanent(errors.New("no")) })
		svc.Declare(welcome)
		stop := runBubble(t, svc)
		const n = 200
		if err := welcome.SendAll(t.Context(), svc, make([]item, n)); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		told := log.with("dead letters, whose messages stay unsettled")
		if len(told) != 1 || !strings.Contains(told[0], "count=") || !strings.Contains(told[0], "dovetail dead list --service mail") || !strings.Contains(told[0], "dead.mail is full") {
			t.Errorf("told %q", told)
		}
		if all := log.with("level=WARN"); len(all) != 1 {
			t.Errorf("%d lines in ten minutes, as %q", len(all), all[0])
		}
		u := only(t, svc, dovetail.StuckUnsent)
		if s := svc.Stats(); u.Channel != "dead.mail" || u.Count != n || s.Unsent != n || time.Since(u.Since) < 9*time.Minute {
			t.Errorf("%+v, %+v", u, s)
		}
		full.Store(false) // what the line advises
		<-time.After(time.Minute)
		synctest.Wait()
		if over := log.with("outage-over"); len(over) != 1 || !strings.Contains(over[0], "count=200") {
			t.Errorf("over: %q", over)
		}
		if all, s := svc.Stuck(), svc.Stats(); len(all) != 0 || s.Unsent != 0 || s.Dead != n {
			t.Errorf("%+v, %+v", all, s)
		}
		stop()
	})
}
