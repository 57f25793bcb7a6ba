// Package dovetailtest tests services without a broker and without waiting: a
// Recorder for code that only sends, and a Harness that runs services for real
// on a broker in memory, with time under control. Where a service needs a database
// over the network, RunLive gives the same Harness with the world's time.
package dovetailtest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A Harness is a broker in memory and the services of one test, in a bubble
// where time stands still while anything can happen and leaps when nothing can
// (package testing/synctest): a retry in thirty seconds costs no time at all.
type Harness struct {
	tb       *testing.T
	conn     driver.Conn
	services []*dovetail.Service
	running  int // of services, from the first
	live     bool
	ctx      context.Context
	wg       sync.WaitGroup
}

// Run runs a test with a Harness. Services that the test starts end with it;
// what they return from Run, and goroutines they leave behind, fail the test.
//
// A database that is reached over a network cannot be used within: time would
// leap, or stand still, while its answer is under way. See RunLive.
func Run(t *testing.T, test func(t *testing.T, h *Harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(t, false, test) })
}

// RunLive runs a test with a Harness outside of any bubble, in the world's time:
// for services with a database over the network, such as pgstore's. The broker is
// in memory all the same. Retries and time-outs take the time that they take; give
// the service's Options short ones.
func RunLive(t *testing.T, test func(t *testing.T, h *Harness)) {
	t.Helper()
	run(t, true, test)
}

func run(t *testing.T, live bool, test func(t *testing.T, h *Harness)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn := bus.Connect()
	h := &Harness{tb: t, conn: conn, live: live, ctx: ctx}
	defer func() {
		cancel()
		h.wg.Wait()
		if err := conn.Close(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	test(t, h)
}

// Service returns a new service of that name, to register handlers with. At
// most one Options may be given; without a Logger it logs to the test.
func (h *Harness) Service(name string, opts ...dovetail.Options) *dovetail.Service {
	h.tb.Helper()
	var o dovetail.Options
	if len(opts) > 1 {
		h.tb.Fatalf("service %s: %d Options given: want one", name, len(opts))
	}
	if len(opts) == 1 {
		o = opts[0]
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(h.tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s := dovetail.New(name, h.conn, o)
	h.services = append(h.services, s)
	return s
}

// Start runs the services made so far and returns when all of them serve.
func (h *Harness) Start() {
	h.tb.Helper()
	fresh := h.services[h.running:]
	h.running = len(h.services)
	for _, s := range fresh {
		h.wg.Go(func() {
			if err := s.Run(h.ctx); err != nil {
				h.tb.Errorf("%v", err)
			}
		})
	}
	if !h.live {
		synctest.Wait()
	}
	for _, s := range fresh {
		if !h.ready(s) {
			h.tb.Fatalf("service %s does not serve", s.Name())
		}
	}
}

// ready reports whether a service serves: at once, or, in the world's time, soon.
func (h *Harness) ready(s *dovetail.Service) bool {
	if h.live {
		select {
		case <-s.Ready():
		case <-time.After(patience):
		}
	}
	select {
	case <-s.Ready():
		return true
	default:
		return false
	}
}

// Settle returns when everything that can happen without time passing has
// happened: handlers have run, what they sent was handled as well. In the world's
// time it returns when no message waits or is in hand; a message that is held to
// be tried again, or waits in an outbox, takes its time: see Until.
func (h *Harness) Settle() {
	h.tb.Helper()
	if !h.live {
		synctest.Wait()
		return
	}
	still := 0
	h.Until("nothing is in hand", func() bool {
		if h.inHand() > 0 {
			still = 0
			return false
		}
		still++
		return still == 3
	})
}

// inHand counts what waits for handlers and what they have.
func (h *Harness) inHand() (n int64) {
	h.tb.Helper()
	all, err := h.conn.(driver.Lister).Channels(h.ctx)
	if err != nil {
		h.tb.Fatal(err)
	}
	for _, c := range all {
		for _, g := range c.Groups {
			n += g.Backlog + g.Pending
		}
	}
	return n
}

// Advance lets d pass, with all that happens in it, and settles; in the world's
// time it waits for d.
func (h *Harness) Advance(d time.Duration) {
	<-time.After(d)
	if !h.live {
		synctest.Wait()
	}
}

// Bounds of Until.
const (
	patience = 20 * time.Second
	lookEach = 5 * time.Millisecond
)

// Until lets time pass until ok reports true, and fails the test if it does not
// within 20 s; what says what was awaited.
func (h *Harness) Until(what string, ok func() bool) {
	h.tb.Helper()
	for end := time.Now().Add(patience); ; h.Advance(lookEach) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			h.tb.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// DeadLetters returns the dead letters of a service, oldest first.
func (h *Harness) DeadLetters(service string) []dovetail.DeadLetter {
	h.tb.Helper()
	return h.letters(dovetail.DeadLetterChannel(service))
}

// Waiting returns the messages of a service that wait for an instance that
// handles their type, by channel and then oldest first.
func (h *Harness) Waiting(service string) (letters []dovetail.DeadLetter) {
	h.tb.Helper()
	for _, channel := range h.keeping(service) {
		if channel != dovetail.DeadLetterChannel(service) {
			letters = append(letters, h.letters(channel)...)
		}
	}
	return letters
}

// keeping are the channels that keep a service's dead letters.
func (h *Harness) keeping(service string) (names []string) {
	h.tb.Helper()
	channels, err := h.conn.(driver.Lister).Channels(h.ctx)
	if err != nil {
		h.tb.Fatal(err)
	}
	for _, c := range channels {
		if of, ok := dovetail.KeepsFor(c.Channel.Name); ok && of == service {
			names = append(names, c.Channel.Name)
		}
	}
	return names
}

func (h *Harness) letters(channel string) []dovetail.DeadLetter {
	h.tb.Helper()
	stored, err := h.conn.(driver.Browser).Browse(h.ctx, channel, "", 1<<20)
	if err != nil {
		h.tb.Fatalf("dead letters on %s: %v", channel, err)
	}
	letters := make([]dovetail.DeadLetter, len(stored))
	for i, s := range stored {
		if letters[i], err = dovetail.ParseDeadLetter(s.Message); err != nil {
			h.tb.Fatal(err)
		}
	}
	return letters
}

// Requeue sends a dead letter's message to the handler that failed, again, and
// removes the dead letter.
func (h *Harness) Requeue(d dovetail.DeadLetter) {
	h.tb.Helper()
	if err := h.conn.Send(h.ctx, []*driver.Message{d.Requeue()}); err != nil {
		h.tb.Fatalf("requeue %s: %v", d.ID, err)
	}
	browser := h.conn.(driver.Browser)
	for _, channel := range h.keeping(d.Service) {
		stored, err := browser.Browse(h.ctx, channel, "", 1<<20)
		if err != nil {
			h.tb.Fatal(err)
		}
		i := slices.IndexFunc(stored, func(s driver.StoredMessage) bool { return s.Message.ID == d.ID })
		if i < 0 {
			continue
		}
		if err := browser.Remove(h.ctx, channel, []string{stored[i].Position}); err != nil {
			h.tb.Fatal(err)
		}
	}
}

// Deliver hands messages to the broker as they are: foreign ones, duplicates,
// broken ones.
func (h *Harness) Deliver(messages ...*driver.Message) {
	h.tb.Helper()
	if err := h.conn.Send(h.ctx, messages); err != nil {
		h.tb.Fatalf("deliver: %v", err)
	}
}
