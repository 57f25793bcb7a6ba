package dovetail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/leak"
	_ "github.com/dovetail-go/dovetail/transport/membus"
)

type item struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

var (
	ranLow  = dovetail.NewEvent[item]("catalog.stock-ran-low").Keyed(func(i item) string { return i.SKU })
	reserve = dovetail.NewCall[item, item]("catalog.reserve-stock")
	welcome = dovetail.NewCommand[item]("mail.send-welcome")
	view    = dovetail.NewSurvey[string, item]("catalog.cache-view")
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// quick tries again at once, so that tests need not wait.
var quick = dovetail.Options{
	Retry:  dovetail.RetryPolicy{Attempts: 3, First: time.Millisecond, Max: 5 * time.Millisecond},
	Logger: slog.New(slog.DiscardHandler),
}

// open opens a service on a broker of the test's own.
func open(t *testing.T, name string, opts dovetail.Options) *dovetail.Service {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	bus := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", "#", "-").Replace(t.Name()))
	s, err := dovetail.Open(t.Context(), name, "mem:"+bus, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs services until the test ends.
func start(t *testing.T, services ...*dovetail.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range services {
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("run %s: %v", s.Name(), err)
			}
		})
	}
	for _, s := range services {
		select {
		case <-s.Ready():
		case <-time.After(10 * time.Second):
			t.Fatalf("service %s is not ready", s.Name())
		}
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// within fails the test unless c delivers in time.
func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

func TestEvent_reaches_every_group_once(t *testing.T) {
	shop, mail := open(t, "shop", quick), open(t, "mail", quick)
	got := make(chan string, 10)
	note := func(who string) func(context.Context, item) error {
		return func(_ context.Context, i item) error { got <- who + " " + i.SKU; return nil }
	}
	ranLow.Subscribe(mail, note("mail"))
	ranLow.Subscribe(mail, note("audit"), dovetail.Group("audit"))
	shop.Declare(ranLow)
	start(t, shop, mail)
	if err := ranLow.Publish(t.Context(), shop, item{"85123A", 6}); err != nil {
		t.Fatal(err)
	}
	all := []string{within(t, got, "first"), within(t, got, "second")}
	slices.Sort(all)
	if want := []string{"audit 85123A", "mail 85123A"}; !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

func TestRequest_gets_answer_refusal_and_failure(t *testing.T) {
	shop, catalog := open(t, "shop", quick), open(t, "catalog", quick)
	var attempts atomic.Int32
	reserve.Handle(catalog, func(_ context.Context, want item) (item, error) {
		switch want.SKU {
		case "gone":
			return item{}, dovetail.Refuse("out-of-stock", "none of %s left", want.SKU)
		case "broken":
			attempts.Add(1)
			return item{}, errors.New("the shelf fell down")
		case "panic":
			panic("oh no")
		}
		return item{want.SKU, 100 - want.Count}, nil
	})
	shop.Declare(reserve)
	start(t, shop, catalog)

	got, err := reserve.Request(t.Context(), shop, item{"85123A", 6})
	if err != nil || got.Count != 94 {
		t.Errorf("answer: got %v, %v", got, err)
	}
	var refusal *dovetail.Refusal
	if _, err := reserve.Request(t.Context(), shop, item{SKU: "gone"}); !errors.As(err, &refusal) || refusal.Code != "out-of-stock" {
		t.Errorf("refusal: got %v", err)
	}
	var remote *dovetail.RemoteError
	if _, err := reserve.Request(t.Context(), shop, item{SKU: "broken"}); !errors.As(err, &remote) || remote.Attempts != 3 || attempts.Load() != 3 {
		t.Errorf("failure: got %v after %d attempts", err, attempts.Load())
	}
	if _, err := reserve.Request(t.Context(), shop, item{SKU: "panic"}); !errors.As(err, &remote) || !strings.Contains(remote.Message, "oh no") {
		t.Errorf("panic: got %v", err)
	}
	if _, err := reserve.Request(t.Context(), shop, item{SKU: "85123A"}, dovetail.Within(time.Nanosecond)); !errors.Is(err, dovetail.ErrNoReply) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no time: got %v", err)
	}
}

func TestFailedMessage_becomes_a_dead_letter_and_is_handled_when_requeued(t *testing.T) {
	svc := open(t, "mail", quick)
	var broken atomic.Bool
	broken.Store(true)
	handled := make(chan item, 10)
	welcome.Handle(svc, func(_ context.Context, i item) error {
		if broken.Load() {
			return fmt.Errorf("mail server is down")
		}
		if got := dovetail.DeliveryFromContext(context.Background()); got != nil {
			t.Error("no handler, yet a message")
		}
		handled <- i
		return nil
	})
	svc.Declare(welcome)
	start(t, svc)
	if err := welcome.Send(t.Context(), svc, item{"x", 1}, dovetail.ID("first"), dovetail.Header("shade", "grün")); err != nil {
		t.Fatal(err)
	}
	browser := svc.Conn().(driver.Browser)
	var dead []driver.StoredMessage
	waitFor(t, "a dead letter", func() bool {
		var err error
		dead, err = browser.Browse(t.Context(), dovetail.DeadLetterChannel("mail"), "", 10)
		return err == nil && len(dead) == 1
	})
	d, err := dovetail.ParseDeadLetter(dead[0].Message)
	if err != nil {
		t.Fatal(err)
	}
	if d.Message.ID != "first" || d.Message.Source != "mail" || d.Group != "mail" || d.Handler != "mail.send-welcome.v1" ||
		d.Attempts != 3 || d.Error != "mail server is down" || d.Message.Headers.Get("shade") != "grün" || string(d.Message.Body) != `{"sku":"x","count":1}` {
		t.Errorf("dead letter %+v of %+v", d, d.Message)
	}
	broken.Store(false)
	if err := svc.Conn().Send(t.Context(), []*driver.Message{d.Requeue()}); err != nil {
		t.Fatal(err)
	}
	if got := within(t, handled, "the requeued message"); got.SKU != "x" {
		t.Errorf("got %v", got)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func TestKeys_keep_their_order_while_a_failing_key_holds_no_neighbour(t *testing.T) {
	opts := quick
	opts.Retry = dovetail.RetryPolicy{Attempts: 50, First: 200 * time.Millisecond, Factor: 1}
	svc := open(t, "catalog", opts)
	var mu sync.Mutex
	seen := map[string][]int{}
	var failed atomic.Bool
	ranLow.Subscribe(svc, func(_ context.Context, i item) error {
		if i.SKU == "bad" && i.Count == 0 && failed.CompareAndSwap(false, true) {
			return errors.New("not yet")
		}
		mu.Lock()
		defer mu.Unlock()
		if i.SKU == "good" && i.Count == 99 && len(seen["bad"]) > 0 {
			t.Error("the failing key held its neighbour up, or was not held")
		}
		seen[i.SKU] = append(seen[i.SKU], i.Count)
		return nil
	}, dovetail.Concurrency(8))
	svc.Declare(ranLow)
	start(t, svc)
	var all []item
	for n := range 100 {
		all = append(all, item{"bad", n}, item{"good", n})
	}
	if err := ranLow.PublishAll(t.Context(), svc, all); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all messages", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen["bad"]) == 100 && len(seen["good"]) == 100
	})
	for key, counts := range seen {
		if !slices.IsSorted(counts) {
			t.Errorf("key %s out of order: %v", key, counts)
		}
	}
}

func TestGather_counts_instances_and_says_when_the_quorum_is_short(t *testing.T) {
	asker := open(t, "shop", quick)
	asker.Declare(view)
	services := []*dovetail.Service{asker}
	for n := range 3 {
		opts := quick
		opts.Instance = fmt.Sprintf("i%d", n)
		s := open(t, "catalog", opts)
		view.Handle(s, func(_ context.Context, sku string) (item, error) {
			if n == 2 && sku == "odd" {
				return item{}, dovetail.Refuse("no-view", "instance %d has none", n)
			}
			return item{sku, n}, nil
		})
		services = append(services, s)
	}
	start(t, services...)
	var who []string
	for a, err := range view.Gather(t.Context(), asker, "even", dovetail.Within(5*time.Second), dovetail.Quorum(3)) {
		if err != nil {
			t.Fatal(err)
		}
		who = append(who, a.Instance)
	}
	slices.Sort(who)
	if want := []string{"i0", "i1", "i2"}; !slices.Equal(who, want) {
		t.Errorf("answers from %v, want %v", who, want)
	}
	var short *dovetail.QuorumError
	var last error
	for _, err := range view.Gather(t.Context(), asker, "odd", dovetail.Within(300*time.Millisecond), dovetail.Quorum(3), dovetail.Expect(3)) {
		last = err
	}
	if !errors.As(last, &short) || short.Got != 2 || short.Bad != 1 || !errors.Is(last, dovetail.ErrQuorum) {
		t.Errorf("want a quorum error of 2 of 3, got %v", last)
	}
}

func TestRun_returns_every_registration_error(t *testing.T) {
	svc := open(t, "catalog", quick)
	ranLow.Subscribe(svc, func(context.Context, item) error { return nil })
	ranLow.Subscribe(svc, func(context.Context, item) error { return nil })
	ranLow.Subscribe(svc, nil, dovetail.Group("other"))
	welcome.Handle(svc, func(context.Context, item) error { return nil }, dovetail.Group("group"))
	svc.Declare(dovetail.NewCommand[item]("Bad Name"), welcome.On(dovetail.NewChannel("catalog.stock-ran-low")))
	err := svc.Run(t.Context())
	if err == nil {
		t.Fatal("want errors")
	}
	for _, part := range []string{"twice in group catalog", "handler is nil", "one group", "Bad Name", "give them channels of their own"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("missing %q in:\n%v", part, err)
		}
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What no retry can help is told at once, to the caller and the operator.
func TestHandler_that_no_retry_can_help_is_not_tried_again(t *testing.T) {
	for remedy, send := range map[string]func(context.Context, *dovetail.Service) error{
		"Declare": func(ctx context.Context, svc *dovetail.Service) error { return welcome.Send(ctx, svc, item{}) },
		"transaction": func(ctx context.Context, svc *dovetail.Service) error {
			return welcome.Send(dovetail.WithinTransaction(ctx, func() bool { return true }), svc, item{})
		},
	} {
		t.Run(remedy, func(t *testing.T) {
			svc := open(t, "catalog", quick)
			reserve.Handle(svc, func(ctx context.Context, i item) (item, error) { return i, send(ctx, svc) })
			svc.Declare(reserve)
			if remedy != "Declare" {
				svc.Declare(welcome)
			}
			start(t, svc)
			_, err := reserve.Request(t.Context(), svc, item{})
			var failure *dovetail.RemoteError
			if !errors.As(err, &failure) || failure.Attempts != 1 || !strings.Contains(err.Error(), remedy) {
				t.Errorf("got %v, want a failure after one attempt that names the remedy", err)
			}
		})
	}
}

// A handler that fails shows in the log before its last attempt, and an outage
// does not flood it.
func TestLog_warns_of_failing_attempts_once_a_minute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		opts := quick
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		opts.Retry = dovetail.RetryPolicy{Attempts: 1000, First: time.Second, Max: time.Second, Jitter: -1}
		svc := open(t, "mail", opts)
		welcome.Handle(svc, func(context.Context, item) error { return errors.New("no route to host") })
		svc.Declare(welcome)
		defer start(t, svc)()
		for range 20 {
			if err := welcome.Send(t.Context(), svc, item{}); err != nil {
				t.Fatal(err)
			}
		}
		timer := time.NewTimer(150 * time.Second)
		<-timer.C
		synctest.Wait()
		if n := strings.Count(log.String(), "no route to host"); n != 3 {
			t.Errorf("%d lines in two and a half minutes, want 3:\n%s", n, log.String())
		}
	})
}

func TestSend_of_an_undeclared_contract_is_refused_with_the_remedy(t *testing.T) {
	svc := open(t, "catalog", quick)
	defer svc.Close(t.Context())
	err := welcome.Send(t.Context(), svc, item{})
	if !errors.Is(err, dovetail.ErrUndeclared) || !strings.Contains(err.Error(), "Declare") {
		t.Errorf("got %v", err)
	}
}
