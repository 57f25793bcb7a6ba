package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
			synctest.Test(t, func(t *testing.T) { checkBeside(t, seed, false) })
		})
	}
}

func checkBeside(t *testing.T, seed uint64, lost bool) {
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
		} else if dovetail.DeliveryFromContext(ctx).Requeues > 0 && !once[i] {
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
		conn := driver.Conn(bus.Connect())
		if lost {
			l := &lossy{browsing: browsing{conn}, rnd: rand.New(rand.NewPCG(seed, uint64(names)))}
			t.Cleanup(l.late.Wait)
			conn = l
		}
		svc = dovetail.New("mail", conn, opts)
		ordered.Handle(svc, handle, dovetail.Ordered())
		svc.Declare(ordered)
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
	if lost {
		<-time.After(30 * time.Second) // until all know of each other
	}
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
		if n%8 == 7 && !lost {
			at := rnd.IntN(len(stops))
			stop := stops[at]
			_, stops[at] = start()
			stop()
		}
	}
	for quiet := 0; quiet < 6; <-time.After(10 * time.Second) {
		if quiet++; requeue(t, sender.Conn(), "mail") > 0 {
			quiet = 0
		}
	}
	watch.check(t, keys*each)
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
			svc.Declare(ordered)
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
