// Package rightstest checks, for the tests of transports with a driver.Granter,
// that a service with exactly the rights that it prints does everything that
// services do, and is told which right is missing without any one of them.
package rightstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// patience bounds one walk, on a machine that does much else.
const patience = 40 * time.Second

// sideBySide is how many walks are taken at once: most of a walk is waiting.
const sideBySide = 4

// A Harness is a server that gives rights.
type Harness struct {
	// Start returns connections to a new server, or to a part of one that
	// nobody else uses: one with every right, and one with those granted, all
	// if nil. An error is that of the second's connecting. The test closes them.
	// It is called from several goroutines.
	Start func(t *testing.T, grants []driver.Grant) (operator, granted driver.Conn, err error)

	// Names is what an error has to have in it where a right is missing. It is
	// empty for a right that is not missed in the walk.
	Names func(driver.Grant) string
}

// Unused are channels that the walk makes no use of: messages would wait there
// that no instance of the service handles.
func Unused(name string) bool {
	return strings.HasPrefix(name, "unhandled.mail.") && name != dovetail.UnhandledChannel("mail", "mail", later.Spec().Type())
}

// Check takes walks with the rights, and without each.
func Check(t *testing.T, h Harness) {
	_, conn, err := h.Start(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	grants := Grants(t, conn)
	slots := make(chan struct{}, sideBySide)
	turn := func(t *testing.T) (done func()) {
		t.Parallel()
		slots <- struct{}{}
		return func() { <-slots }
	}
	t.Run("exactly the rights", func(t *testing.T) {
		defer turn(t)()
		if err := h.walk(t, grants); err != nil {
			t.Error(err)
		}
	})
	for i, without := range grants {
		want := h.Names(without)
		if want == "" {
			continue
		}
		t.Run("without "+without.Verb+" "+without.On, func(t *testing.T) {
			defer turn(t)()
			less := append(append([]driver.Grant(nil), grants[:i]...), grants[i+1:]...)
			err := h.walk(t, less)
			if !errors.Is(err, driver.ErrDenied) || !strings.Contains(err.Error(), want) {
				t.Errorf("the walk ended with: %v; want ErrDenied that names %s", err, want)
			}
		})
	}
}

// Grants are the rights of the service that Check runs.
func Grants(t *testing.T, conn driver.Conn) []driver.Grant {
	t.Helper()
	svc := dovetail.New("mail", conn, dovetail.Options{Instance: "0"})
	new(walker).mail(svc, true)
	grants, err := conn.(driver.Granter).Grants(svc.Uses())
	if err != nil {
		t.Fatal(err)
	}
	return grants
}

type item struct{ N int }

var (
	tell   = dovetail.NewCommand[item]("mail.tell")
	later  = dovetail.NewCommand[item]("mail.later").On(dovetail.NewChannel("mail.tell"))
	broken = dovetail.NewCommand[item]("mail.broken").Keyed(func(item) string { return "k" })
	did    = dovetail.NewEvent[item]("mail.did")
	ask    = dovetail.NewCall[item, item]("mail.ask")
	view   = dovetail.NewSurvey[item, item]("mail.view")
	news   = dovetail.NewEvent[item]("shop.news")
	price  = dovetail.NewCall[item, item]("shop.price")
	poll   = dovetail.NewSurvey[item, item]("shop.poll")
)

// A walker counts what happened, by name.
type walker struct {
	mu       sync.Mutex
	seen     map[string]int
	repaired bool
	denied   error
	stop     context.CancelFunc
}

func (w *walker) see(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what]++
	return nil
}

func (w *walker) on(what string) func(context.Context, item) error {
	return func(context.Context, item) error { return w.see(what) }
}

func (w *walker) answering(what string) func(context.Context, item) (item, error) {
	return func(_ context.Context, i item) (item, error) { return i, w.see(what) }
}

func (w *walker) answered(what string) func(context.Context, dovetail.Answer[item], error) error {
	return func(context.Context, dovetail.Answer[item], error) error { return w.see(what) }
}

// mail declares the service whose rights are tried; an old instance lacks a
// handler.
func (w *walker) mail(svc *dovetail.Service, newest bool) {
	svc.Declare(did, price, poll)
	var ordered []dovetail.SubscribeOption // where it can be: the instances then tell each other of keys
	if svc.Conn().Capabilities().Order >= driver.OrderOwner {
		ordered = append(ordered, dovetail.Ordered())
	}
	tell.Handle(svc, w.on("tell"))
	broken.Handle(svc, func(context.Context, item) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.repaired {
			return errors.New("broken")
		}
		w.seen["broken"]++
		return nil
	}, ordered...)
	did.Subscribe(svc, w.on("audit"), dovetail.Group("audit"))
	ask.Handle(svc, w.answering("ask"))
	view.Handle(svc, w.answering("view"))
	news.Subscribe(svc, w.on("news"), dovetail.Broadcast())
	poll.Answers(svc, w.answered("poll"))
	if newest {
		later.Handle(svc, w.on("later"))
	}
}

// shop declares the service at the other end.
func (w *walker) shop(svc *dovetail.Service) {
	svc.Declare(tell, later, broken, ask, view, news)
	did.Subscribe(svc, w.on("did"))
	price.Handle(svc, w.answering("price"))
	poll.Handle(svc, w.answering("polled"))
	view.Answers(svc, w.answered("viewed"))
}

// run runs a service and returns when it serves.
func (w *walker) run(ctx context.Context, svc *dovetail.Service) (wait func() error, err error) {
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
		return func() error { return <-ended }, nil
	case err := <-ended:
		if err == nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s ended: %w", svc.Name(), err)
	}
}

func (w *walker) options(instance string) dovetail.Options {
	return dovetail.Options{
		Instance: instance, Logger: slog.New(slog.DiscardHandler), Retry: dovetail.RetryPolicy{Attempts: 1}, DrainTimeout: time.Second,
		Hooks: dovetail.Hooks{Notice: func(n dovetail.Notice) {
			if errors.Is(n.Err, driver.ErrDenied) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.denied == nil {
					w.denied = n.Err
				}
				w.stop()
			}
		}},
	}
}

// until waits for everything to have been seen.
func (w *walker) until(ctx context.Context, whats ...string) error {
	for {
		missing := ""
		w.mu.Lock()
		for _, what := range whats {
			if w.seen[what] == 0 {
				missing = what
			}
		}
		w.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w", missing, ctx.Err())
		}
	}
}

// walk has a service with the granted rights do everything, beside one with all
// rights. It returns the first denial that anybody is told of.
func (h *Harness) walk(t *testing.T, grants []driver.Grant) error {
	operator, granted, err := h.Start(t, grants)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w := &walker{seen: map[string]int{}, stop: cancel}
	err = w.walk(ctx, operator, granted)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.denied != nil && !errors.Is(err, driver.ErrDenied) {
		return w.denied
	}
	return err
}

func (w *walker) walk(ctx context.Context, operator, granted driver.Conn) (err error) {
	running, stop := context.WithCancel(ctx)
	var waits []func() error
	start := func(svc *dovetail.Service) error {
		wait, err := w.run(running, svc)
		if err == nil {
			waits = append(waits, wait)
		}
		return err
	}
	end := func() error {
		stop()
		var errs []error
		for _, wait := range waits {
			errs = append(errs, wait())
		}
		waits = nil
		return errors.Join(errs...)
	}
	defer func() { err = errors.Join(err, end()) }()

	shop := dovetail.New("shop", operator, dovetail.Options{Instance: "1", Logger: slog.New(slog.DiscardHandler)})
	w.shop(shop)
	old := dovetail.New("mail", granted, w.options("1"))
	w.mail(old, false)
	if err := errors.Join(start(old), start(shop)); err != nil {
		return err
	}
	for _, send := range []func() error{
		func() error { return tell.Send(ctx, shop, item{1}) },
		func() error { return later.Send(ctx, shop, item{2}) },
		func() error { return broken.Send(ctx, shop, item{3}) },
		func() error { return news.Publish(ctx, shop, item{4}) },
		func() error { return view.Ask(ctx, shop, item{5}) },
		func() error { return did.Publish(ctx, old, item{6}) },
		func() error { return poll.Ask(ctx, old, item{7}) },
		func() error { _, err := price.Request(ctx, old, item{8}); return err },
		func() error { _, err := ask.Request(ctx, shop, item{9}); return err },
		func() error {
			for _, err := range view.Gather(ctx, shop, item{10}, dovetail.Quorum(1)) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := send(); err != nil {
			return err
		}
	}
	if err := w.until(ctx, "tell", "news", "viewed", "did", "audit", "poll", "price", "ask", "view"); err != nil {
		return err
	}
	if err := w.repair(ctx, operator); err != nil {
		return err
	}
	// The newest instance takes what waited for it.
	newest := dovetail.New("mail", granted, w.options("2"))
	w.mail(newest, true)
	if err := start(newest); err != nil {
		return err
	}
	return w.until(ctx, "later")
}

// repair sends the dead letter again, as its operator does.
func (w *walker) repair(ctx context.Context, operator driver.Conn) error {
	for {
		letters, err := operator.(driver.Browser).Browse(ctx, dovetail.DeadLetterChannel("mail"), "", 1)
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				return fmt.Errorf("await a dead letter: %w", ctx.Err())
			}
		}
		d, err := dovetail.ParseDeadLetter(letters[0].Message)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.repaired = true
		w.mu.Unlock()
		if err := operator.Send(ctx, []*driver.Message{d.Requeue()}); err != nil {
			return err
		}
		return w.until(ctx, "broken")
	}
}
