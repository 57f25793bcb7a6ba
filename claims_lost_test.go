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
)

// browsing is a fake's connection whose channels can be looked at.
type browsing struct{ driver.Conn }

func (c browsing) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	return c.Conn.(driver.Browser).Browse(ctx, channel, after, max)
}

func (c browsing) Remove(ctx context.Context, channel string, positions []string) error {
	return c.Conn.(driver.Browser).Remove(ctx, channel, positions)
}

// What instances tell each other is lost now and then, and overtaken.
func TestKey_is_not_handled_beside_a_letter_of_it_where_little_is_heard(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkBeside(t, seed, true) })
		})
	}
}

// A lossy is a fake: a transport in memory that loses some of what instances tell
// each other of keys, and delays some.
type lossy struct {
	browsing
	mu   sync.Mutex
	rnd  *rand.Rand
	late sync.WaitGroup
}

func (c *lossy) Send(ctx context.Context, ms []*driver.Message) error {
	if !strings.HasSuffix(ms[0].Channel, ".keys") {
		return c.Conn.Send(ctx, ms)
	}
	c.mu.Lock()
	n, delay := c.rnd.IntN(3), time.Duration(c.rnd.IntN(2000))*time.Millisecond
	c.mu.Unlock()
	switch n {
	case 0:
		return nil
	case 1:
		c.late.Go(func() {
			<-time.After(delay)
			_ = c.Conn.Send(context.WithoutCancel(ctx), ms) // if it fails, it is one more that is lost
		})
		return nil
	}
	return c.Conn.Send(ctx, ms)
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
		first.Declare(ordered)
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
		second.Declare(ordered)
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
	browsing
	refuses bool
	why     error
}

func (c *noKeys) Send(ctx context.Context, ms []*driver.Message) error {
	if c.refuses && strings.HasSuffix(ms[0].Channel, ".keys") {
		return c.why
	}
	return c.Conn.Send(ctx, ms)
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
					conn := &noKeys{browsing: browsing{bus.Connect()}, refuses: n == 0 || mute == "both", why: driver.ErrDenied}
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
					svc.Declare(ordered)
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
