package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

var ordered = dovetail.NewCommand[item]("mail.ordered").Keyed(func(i item) string { return i.SKU })

// beside sees whether two handlers of one key run at once.
type beside struct {
	mu      sync.Mutex
	running map[string]int
	handled map[item]int
	twoOf   map[string]int // how often two of a key ran at once
}

func newBeside() *beside {
	return &beside{running: map[string]int{}, handled: map[item]int{}, twoOf: map[string]int{}}
}

func (b *beside) handle(i item, takes time.Duration) {
	b.mu.Lock()
	if b.running[i.SKU]++; b.running[i.SKU] > 1 {
		b.twoOf[i.SKU]++
	}
	b.mu.Unlock()
	<-time.After(takes)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running[i.SKU]--
	b.handled[i]++
}

func (b *beside) check(t *testing.T, want int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.twoOf) > 0 {
		t.Errorf("messages of one key were handled at once: %v", b.twoOf)
	}
	if len(b.handled) != want {
		t.Errorf("%d messages were handled, want %d", len(b.handled), want)
	}
	for i, n := range b.handled {
		if n != 1 {
			t.Errorf("message %v was handled %d times", i, n)
		}
	}
}

// requeue sends the dead letters of a service to be handled again, and returns
// how many.
func requeue(t *testing.T, conn driver.Conn, service string) int {
	t.Helper()
	b := conn.(driver.Browser)
	kept, err := b.Browse(t.Context(), dovetail.DeadLetterChannel(service), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range kept {
		d, err := dovetail.ParseDeadLetter(s.Message)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Send(t.Context(), []*driver.Message{d.Requeue()}); err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), dovetail.DeadLetterChannel(service), []string{s.Position}); err != nil {
			t.Fatal(err)
		}
	}
	return len(kept)
}

func memBus(t *testing.T) *membus.Bus {
	t.Helper()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return bus
}

// Instances come and go meanwhile. Several letters of one key are in the hands of
// different instances, and some fail and are tried again.
func TestKey_is_not_handled_beside_a_letter_of_it(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkBeside(t, seed) })
		})
	}
}

func checkBeside(t *testing.T, seed uint64) {
	rnd, ofHandlers := rand.New(rand.NewPCG(seed, 7)), rand.New(rand.NewPCG(seed, 8))
	bus := memBus(t)
	watch := newBeside()
	var mu sync.Mutex
	failures := map[item]int{} // still to come
	once := map[item]bool{}    // failed as letters
	handle := func(ctx context.Context, i item) error {
		mu.Lock()
		takes := time.Duration(ofHandlers.IntN(300)) * time.Millisecond
		dies, fails := failures[i] > 0, false
		if dies {
			failures[i]--
		} else if dovetail.Current(ctx).Requeues > 0 && !once[i] {
			once[i], fails = true, ofHandlers.IntN(3) == 0
		}
		mu.Unlock()
		if dies {
			return dovetail.Permanent(errors.New("not yet"))
		}
		if fails {
			return errors.New("another time")
		}
		watch.handle(i, takes)
		return nil
	}
	var names int
	start := func() (svc *dovetail.Service, stop func()) {
		opts := quick
		opts.Instance = fmt.Sprint("i", names)
		names++
		svc = dovetail.New("mail", bus.Connect(), opts)
		ordered.Handle(svc, handle, dovetail.Ordered())
		svc.Sends(ordered)
		return svc, runBubble(t, svc)
	}
	sender, stopSender := start()
	defer stopSender()
	var stops []func()
	for range 2 {
		_, stop := start()
		stops = append(stops, stop)
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	const keys, each = 12, 25
	for n := range each {
		for k := range keys {
			i := item{fmt.Sprint("key ", k), n}
			if rnd.IntN(4) == 0 {
				mu.Lock()
				failures[i] = 1 + rnd.IntN(2)
				mu.Unlock()
			}
			if err := ordered.Send(t.Context(), sender, i); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Duration(rnd.IntN(400)) * time.Millisecond)
		requeue(t, sender.Conn(), "mail")
		if n%8 == 7 {
			at := rnd.IntN(len(stops))
			stop := stops[at]
			_, stops[at] = start()
			stop()
		}
	}
	for quiet := 0; quiet < 3; <-time.After(10 * time.Second) {
		if quiet++; requeue(t, sender.Conn(), "mail") > 0 {
			quiet = 0
		}
	}
	watch.check(t, keys*each)
}

// The instance that has the letter loses the broker while its handler runs. The
// others believe for a while that the key is still in hand, and then go on.
func TestKey_whose_claimant_is_gone_goes_on(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memBus(t)
		watch := newBeside()
		begun := make(chan struct{})
		fail := true
		far := bus.Connect()
		opts := quick
		opts.Instance = "far"
		first := dovetail.New("mail", far, opts)
		ordered.Handle(first, func(ctx context.Context, i item) error {
			if fail {
				return dovetail.Permanent(errors.New("not yet"))
			}
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}, dovetail.Ordered())
		first.Sends(ordered)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- first.Run(ctx) }()
		<-first.Ready()
		if err := ordered.Send(t.Context(), first, item{"k", 0}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		fail = false
		if n := requeue(t, far, "mail"); n != 1 {
			t.Fatalf("%d dead letters", n)
		}
		<-begun
		opts.Instance = "near"
		second := dovetail.New("mail", bus.Connect(), opts)
		ordered.Handle(second, func(_ context.Context, i item) error {
			watch.handle(i, time.Second)
			return nil
		}, dovetail.Ordered())
		second.Sends(ordered)
		defer runBubble(t, second)()
		<-second.Ready()
		if err := ordered.Send(t.Context(), second, item{"other", 1}); err != nil {
			t.Fatal(err)
		}
		if err := ordered.Send(t.Context(), second, item{"k", 1}); err != nil {
			t.Fatal(err)
		}
		if err := far.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		watch.check(t, 1) // the other key's
		<-time.After(25 * time.Second)
		watch.check(t, 3)
		<-ended
	})
}

// noKeys is a fake: a transport in memory that carries nothing on the channel on
// which instances tell each other of keys.
type noKeys struct {
	driver.Conn
	refuses bool
	why     error
}

func (c *noKeys) Send(ctx context.Context, ms []*driver.Message) error {
	if c.refuses && strings.HasSuffix(ms[0].Channel, ".keys") {
		return c.why
	}
	return c.Conn.Send(ctx, ms)
}

func (c *noKeys) Browse(ctx context.Context, channel, after string, max int) ([]driver.Stored, error) {
	return c.Conn.(driver.Browser).Browse(ctx, channel, after, max)
}

func (c *noKeys) Remove(ctx context.Context, channel string, positions []string) error {
	return c.Conn.(driver.Browser).Remove(ctx, channel, positions)
}

func TestLetter_is_handled_where_instances_cannot_hear_each_other(t *testing.T) {
	for _, mute := range []string{"both", "one"} {
		t.Run(mute, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := memBus(t)
				watch := newBeside()
				var mu sync.Mutex
				letters := map[item]bool{}
				var conns []*noKeys
				for n := range 2 {
					conn := &noKeys{Conn: bus.Connect(), refuses: n == 0 || mute == "both", why: driver.ErrDenied}
					conns = append(conns, conn)
					opts := quick
					opts.Instance = fmt.Sprint(n)
					svc := dovetail.New("mail", conn, opts)
					ordered.Handle(svc, func(_ context.Context, i item) error {
						mu.Lock()
						known := letters[i]
						letters[i] = true
						mu.Unlock()
						if !known {
							return dovetail.Permanent(errors.New("not yet"))
						}
						watch.handle(i, time.Second)
						return nil
					}, dovetail.Ordered())
					svc.Sends(ordered)
					defer runBubble(t, svc)()
					<-svc.Ready()
					for k := range 8 {
						if err := ordered.Send(t.Context(), svc, item{fmt.Sprint("key ", k), n}); err != nil {
							t.Fatal(err)
						}
					}
				}
				<-time.After(time.Minute)
				requeue(t, conns[0], "mail")
				<-time.After(time.Minute)
				watch.mu.Lock()
				defer watch.mu.Unlock()
				if len(watch.handled) != 16 {
					t.Errorf("%d letters were handled, want 16", len(watch.handled))
				}
			})
		})
	}
}

// The partitions of keys whose letters are handled move to an instance that joins.
// A letter that had not begun goes on where it is, too.
func TestLetters_keep_their_keys_while_partitions_move(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := memBus(t)
		watch := newBeside()
		var mu sync.Mutex
		ill := true
		by := map[string]int{}
		start := func(instance string) (*dovetail.Service, func()) {
			opts := quick
			opts.Instance = instance
			svc := dovetail.New("mail", bus.Connect(), opts)
			ordered.Handle(svc, func(_ context.Context, i item) error {
				mu.Lock()
				fails := ill
				by[instance]++
				mu.Unlock()
				if fails {
					return dovetail.Permanent(errors.New("not yet"))
				}
				watch.handle(i, 20*time.Second)
				return nil
			}, dovetail.Ordered())
			svc.Sends(ordered)
			return svc, runBubble(t, svc)
		}
		first, stop := start("first")
		defer stop()
		<-first.Ready()
		const keys = 16
		send := func(n int) {
			for k := range keys {
				if err := ordered.Send(t.Context(), first, item{fmt.Sprint("key ", k), n}); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(0)
		send(1)
		<-time.After(time.Second)
		mu.Lock()
		ill = false
		mu.Unlock()
		if n := requeue(t, first.Conn(), "mail"); n != 2*keys {
			t.Fatalf("%d dead letters", n)
		}
		<-time.After(time.Second)
		_, stop = start("second")
		defer stop()
		<-time.After(time.Second)
		send(2)
		<-time.After(2 * time.Minute)
		watch.check(t, 3*keys)
		mu.Lock()
		defer mu.Unlock()
		if by["second"] == 0 {
			t.Error("no partition has moved")
		}
	})
}
