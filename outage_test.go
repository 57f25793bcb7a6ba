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

// flaky is a fake: a transport in memory whose link fails when the test says
// so. Real servers are killed in the transports' own tests.
type flaky struct {
	driver.Conn
	away   atomic.Bool  // nothing works
	unsure atomic.Int32 // so many sends arrive, and yet their confirmation does not
	deaf   atomic.Bool  // receivers deliver nothing
	deny   atomic.Int32 // so many settlements are refused for good
	opened atomic.Int32

	mu  sync.Mutex
	cut chan struct{} // closed when the link breaks
}

// interrupt breaks the link: what waits fails.
func (f *flaky) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away.Store(true)
	if f.cut != nil {
		close(f.cut)
	}
	f.cut = nil
}

func (f *flaky) link() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut == nil {
		f.cut = make(chan struct{})
	}
	return f.cut
}

func (f *flaky) err() error {
	if f.away.Load() {
		return fmt.Errorf("link is down: %w", driver.ErrRetryable)
	}
	return nil
}

func (f *flaky) Provision(ctx context.Context, c []driver.Channel, s []driver.Subscription) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Conn.Provision(ctx, c, s)
}

func (f *flaky) Send(ctx context.Context, ms []*driver.Message) error {
	if err := f.err(); err != nil {
		return err
	}
	err := f.Conn.Send(ctx, ms)
	if err == nil && f.unsure.Add(-1) >= 0 {
		var se driver.SendError
		for i := range ms {
			se.Fail(i, driver.ErrRetryable, true)
		}
		return &se
	}
	return err
}

func (f *flaky) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	f.opened.Add(1)
	r, err := f.Conn.OpenReceiver(ctx, s)
	return &flakyReceiver{r, f}, err
}

type flakyReceiver struct {
	driver.Receiver
	f *flaky
}

func (r *flakyReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.f.deaf.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	cut := r.f.link()
	if err := r.f.err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	ds, err := r.Receiver.Receive(ctx, max)
	if broken := r.f.err(); err != nil && broken != nil {
		err = broken
	}
	return ds, err
}

func (r *flakyReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if err := r.f.err(); err != nil {
		return err
	}
	if r.f.deny.Add(-1) >= 0 {
		return driver.ErrDenied
	}
	return r.Receiver.Settle(ctx, s)
}

func (r *flakyReceiver) Backlog(ctx context.Context) (int64, error) {
	return r.Receiver.(driver.Backlogger).Backlog(ctx)
}

func flakyService(t *testing.T, opts dovetail.Options) (*dovetail.Service, *flaky) {
	t.Helper()
	conn, err := driver.Open(t.Context(), "mem:")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Conn: conn}
	return dovetail.New("mail", f, opts), f
}

// runBubble runs a service in a synctest bubble until the returned function is
// called, or the test ends.
func runBubble(t *testing.T, svc *dovetail.Service) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	synctest.Wait()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop) // a goroutine that stays would hide why the test failed
	return stop
}

func TestService_comes_back_by_itself_after_the_broker_was_away(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		var mu sync.Mutex
		seen := map[int]int{}
		welcome.Handle(svc, func(_ context.Context, i item) error {
			mu.Lock()
			defer mu.Unlock()
			seen[i.Count]++
			return nil
		})
		svc.Declare(welcome)
		f.away.Store(true) // also at the start
		stop := runBubble(t, svc)
		defer stop()
		select {
		case <-svc.Ready():
			t.Fatal("ready without a broker")
		default:
		}
		f.away.Store(false)
		<-svc.Ready()
		for n := range 20 {
			if n%5 == 3 {
				f.away.Store(true)
				time.AfterFunc(20*time.Second, func() { f.away.Store(false) })
			}
			if err := welcome.Send(t.Context(), svc, item{Count: n}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for n := range 20 {
			if seen[n] == 0 {
				t.Errorf("message %d is lost", n)
			}
		}
	})
}

func TestSend_gives_up_in_time_and_tells_unsent_from_unknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		defer svc.Close(t.Context())
		svc.Declare(welcome)
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		f.away.Store(true)
		from := time.Now()
		err := welcome.Send(t.Context(), svc, item{})
		var se *dovetail.SendError
		if !errors.As(err, &se) || len(se.Failures) != 1 || se.Failures[0].Unknown || errors.Is(err, dovetail.ErrUnknownOutcome) {
			t.Errorf("not sent: got %v", err)
		}
		if took := time.Since(from); took > 31*time.Second {
			t.Errorf("took %v", took)
		}
		f.away.Store(false)
		f.unsure.Store(1 << 20)
		err = welcome.SendAll(t.Context(), svc, make([]item, 3))
		if !errors.As(err, &se) || len(se.Failures) != 3 || !errors.Is(err, dovetail.ErrUnknownOutcome) {
			t.Errorf("unknown: got %v", err)
		}
		f.unsure.Store(1)
		if err = welcome.SendAll(t.Context(), svc, make([]item, 3)); err != nil {
			t.Errorf("confirmed at the second attempt: got %v", err)
		}
	})
}

func TestReceiver_that_stalls_is_opened_anew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		handled := make(chan struct{})
		welcome.Handle(svc, func(context.Context, item) error { close(handled); return nil })
		svc.Declare(welcome)
		f.deaf.Store(true)
		stop := runBubble(t, svc)
		defer stop()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		before := f.opened.Load()
		f.deaf.Store(false) // those that are open stay deaf
		<-handled
		if f.opened.Load() == before || svc.Stats().Stalls == 0 {
			t.Error("the message came, but not through a receiver opened again")
		}
	})
}

func TestConcurrentSends_share_batches_and_each_gets_its_own_outcome(t *testing.T) {
	svc, f := flakyService(t, quick)
	small := quick
	small.Limits.Body = 64
	svc2 := dovetail.New("mail", f, small)
	svc2.Declare(welcome)
	var wg sync.WaitGroup
	var bad atomic.Int32
	for n := range 200 {
		wg.Go(func() {
			i := item{SKU: "s", Count: n}
			if n%10 == 0 {
				i.SKU = string(make([]byte, 100))
			}
			err := welcome.Send(t.Context(), svc2, i)
			if (n%10 == 0) != errors.Is(err, dovetail.ErrInvalid) {
				t.Errorf("message %d: %v", n, err)
			}
			if err != nil {
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	if bad.Load() != 20 || svc2.Stats().Sent != 180 {
		t.Errorf("%d refused, %d sent", bad.Load(), svc2.Stats().Sent)
	}
	if err := errors.Join(svc.Close(t.Context()), svc2.Close(t.Context()), f.Conn.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestMessage_that_cannot_be_settled_comes_again_and_is_then_settled_alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		var n atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error { n.Add(1); return nil })
		svc.Declare(welcome)
		f.deny.Store(1)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := n.Load(); n != 1 {
			t.Errorf("handled %d times", n)
		}
		if n := (&scripted{Conn: f.Conn}).unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

func TestRequeue_of_a_broadcast_finds_the_handler_in_another_instance(t *testing.T) {
	opts := quick
	opts.Instance = "before"
	svc := open(t, "catalog", opts)
	var broken atomic.Bool
	broken.Store(true)
	got := make(chan string, 1)
	handle := func(ctx context.Context, i item) error {
		if broken.Load() {
			return errors.New("no view yet")
		}
		got <- dovetail.DeliveryFromContext(ctx).Instance
		return nil
	}
	ranLow.Subscribe(svc, handle, dovetail.Broadcast())
	svc.Declare(ranLow)
	opts.Instance = "after"
	next := open(t, "catalog", opts)
	ranLow.Subscribe(next, handle, dovetail.Broadcast())
	stop := start(t, svc)
	if err := ranLow.Publish(t.Context(), svc, item{"x", 1}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a dead letter", func() bool { return svc.Stats().Dead == 1 })
	dead, err := svc.Conn().(driver.Browser).Browse(t.Context(), dovetail.DeadLetterChannel("catalog"), "", 10)
	if err != nil || len(dead) != 1 {
		t.Fatalf("%d dead letters, %v", len(dead), err)
	}
	stop()
	broken.Store(false)
	start(t, next)
	letter, err := dovetail.ParseDeadLetter(dead[0].Message)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Conn().Send(t.Context(), []*driver.Message{letter.Requeue()}); err != nil {
		t.Fatal(err)
	}
	if who := within(t, got, "the requeued message"); who != "after" {
		t.Errorf("handled by %s", who)
	}
}

func TestReceiver_opened_anew_brings_what_had_not_begun_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		var begun atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error {
			begun.Add(1)
			<-time.After(time.Second)
			return nil
		}, dovetail.Concurrency(1))
		svc.Declare(welcome)
		stop := runBubble(t, svc)
		defer stop()
		f.deny.Store(1)
		if err := welcome.SendAll(t.Context(), svc, make([]item, 10)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		// The first, which could not be settled, and the second, which had begun
		// when its receiver was closed, come again and are known.
		if n := begun.Load(); n != 10 {
			t.Errorf("10 messages were handled %d times", n)
		}
	})
}

// replaced is a fake: its first receiver of a channel breaks when it has
// delivered something, and its settlements fail when the next one is open.
type replaced struct {
	driver.Conn
	channel string
	opened  atomic.Int32
	second  chan struct{}
}

type breaking struct {
	driver.Receiver
	c      *replaced
	broken bool
}

func (c *replaced) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.Conn.OpenReceiver(ctx, s)
	if err != nil || s.Channel.Name != c.channel {
		return r, err
	}
	switch c.opened.Add(1) {
	case 1:
		return &breaking{Receiver: r, c: c}, nil
	case 2:
		close(c.second)
	}
	return r, nil
}

func (r *breaking) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.broken {
		return nil, driver.ErrNotFound
	}
	r.broken = true
	return r.Receiver.Receive(ctx, max)
}

func (r *breaking) Settle(context.Context, []driver.Settlement) error {
	<-r.c.second
	return driver.ErrDenied
}

func TestSettlement_that_fails_on_a_receiver_already_replaced_does_not_close_the_next(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &replaced{Conn: scriptedConn(t).Conn, channel: welcome.Spec().Channel.Name, second: make(chan struct{})}
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return nil })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := conn.opened.Load(); n != 2 {
			t.Errorf("opened %d times, want 2", n)
		}
	})
}
