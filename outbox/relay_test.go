package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

func TestRelay_has_one_message_of_a_key_under_way(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered pipeline: %v", pipelined), func(t *testing.T) {
			idle(t, outbox.Options{}, func(b *bench) {
				b.broker.caps.OrderedPipeline = pipelined
				b.publish("stock", "a", "a1", "a2", "a3")
				b.publish("stock", "b", "b1", "b2")
				b.publish("stock", "", "x", "y")
				b.publish("other", "a", "other")
				b.start()
				b.pass(time.Second)
				b.stop()
				want := [][]string{{"a1", "b1", "x", "y", "other"}, {"a2", "b2"}, {"a3"}}
				if pipelined {
					want = [][]string{{"a1", "a2", "a3", "b1", "b2", "x", "y", "other"}}
				}
				if fmt.Sprint(b.broker.sends) != fmt.Sprint(want) {
					b.Errorf("sends %v, want %v", b.broker.sends, want)
				}
			})
		})
	}
}

func TestRelay_holds_a_key_that_fails_while_others_pass(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if m.Key == "bad" {
				return driver.ErrRetryable, false
			}
			return nil, false
		}
		b.publish("stock", "bad", "bad1", "bad2")
		b.publish("stock", "good", "good1")
		b.want(0, "good1")
		for i := range 5 {
			b.publish("stock", "good", fmt.Sprintf("good%d", i+2))
			b.pass(time.Second)
		}
		if st := b.stats(); st.Held != 2 || st.Backlog != 0 {
			b.Fatalf("stats %+v, want the two held and nothing behind them", st)
		}
		b.publish("stock", "bad", "bad3")
		b.pass(time.Second)
		held, err := b.db.Browse(b.Context(), 0, store.Position{}, 10)
		b.must(err)
		if len(held) != 3 || held[0].Lane.Error == "" || held[2].Message.ID != "bad3" {
			b.Fatalf("held %+v, want three in order, with the error", held)
		}
		b.broker.set(func() { b.broker.fail = nil })
		b.publish("stock", "bad", "bad4")
		b.want(2*time.Minute, "good1", "good2", "good3", "good4", "good5", "good6", "bad1", "bad2", "bad3", "bad4")
		b.publish("stock", "bad", "bad5")
		b.want(0, "good1", "good2", "good3", "good4", "good5", "good6", "bad1", "bad2", "bad3", "bad4", "bad5")
		if st := b.stats(); st.Held != 0 {
			b.Errorf("stats %+v", st)
		}
	})
}

func TestRelay_lets_other_channels_pass_one_that_fails(t *testing.T) {
	for name, failure := range map[string]error{"not provisioned": driver.ErrNotFound, "denied": driver.ErrDenied, "away": driver.ErrRetryable} {
		t.Run(name, func(t *testing.T) {
			within(t, outbox.Options{Batch: 10}, func(b *bench) {
				b.broker.fail = func(m *driver.Message) (error, bool) {
					if m.Channel == "bad" {
						return failure, false
					}
					return nil, false
				}
				var bad, good []string
				for i := range 100 { // far more than the window holds
					bad, good = append(bad, fmt.Sprintf("bad%d", i)), append(good, fmt.Sprintf("good%d", i))
					b.publish("bad", fmt.Sprint("k", i%7), bad[i])
					b.publish("good", fmt.Sprint("k", i%7), good[i])
				}
				b.pass(30 * time.Second)
				if got := len(b.broker.ids()); got != 100 {
					b.Fatalf("%d of 100 good messages came through", got)
				}
				if st := b.stats(); st.Held != 100 || st.Backlog != 0 || st.Trouble == "" {
					b.Errorf("stats %+v, want 100 held, and the trouble named", st)
				}
				b.broker.set(func() { b.broker.fail = nil })
				b.pass(3 * time.Minute)
				inOrder(b.T, b.broker.got, 200)
			})
		})
	}
}

// inOrder checks that n different messages came, those of a channel and key in
// the order of the numbers at the end of their ids.
func inOrder(t *testing.T, got []*driver.Message, n int) {
	t.Helper()
	seen, last := map[string]bool{}, map[string]int{}
	for _, m := range got {
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		var i int
		if _, err := fmt.Sscanf(strings.TrimLeft(m.ID, "abcdefghijklmnopqrstuvwxyz"), "%d", &i); err != nil {
			t.Fatalf("id %s: %v", m.ID, err)
		}
		lane := m.Channel + "/" + m.Key
		if before, ok := last[lane]; ok && i <= before && m.Key != "" {
			t.Errorf("%s: %d came after %d", lane, i, before)
		}
		last[lane] = i
	}
	if len(seen) != n {
		t.Errorf("%d different messages came, want %d", len(seen), n)
	}
}

func TestRelay_copies_nothing_while_the_broker_is_away(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.set(func() { b.broker.away = func() error { return driver.ErrRetryable } })
		for i := range 20 {
			b.publish("stock", fmt.Sprint("k", i%3), fmt.Sprint(i))
		}
		b.pass(10 * time.Minute)
		st := b.stats()
		if st.Held != 0 || st.Backlog != 20 || st.Trouble == "" || time.Since(st.Oldest) < 10*time.Minute {
			b.Errorf("stats %+v, want a backlog of 20 for ten minutes and nothing held", st)
		}
		if n := b.logs.count(); n > 25 {
			b.Errorf("%d log records in ten minutes: %v", n, b.logs.records)
		}
		if n := len(b.broker.sends); n > 1000 {
			b.Errorf("%d attempts in ten minutes", n)
		}
		b.broker.set(func() { b.broker.away = nil })
		b.pass(5 * time.Second)
		inOrder(b.T, b.broker.got, 20)
		if st := b.stats(); st.Trouble != "" {
			b.Errorf("trouble is over: %q", st.Trouble)
		}
	})
}

func TestRelay_copies_nothing_while_every_message_fails(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.set(func() { b.broker.fail = func(*driver.Message) (error, bool) { return driver.ErrRetryable, true } })
		for i := range 20 {
			b.publish("stock", fmt.Sprint("k", i%3), fmt.Sprint(i))
		}
		b.pass(time.Minute)
		if st := b.stats(); st.Held != 0 {
			b.Errorf("stats %+v, want nothing held", st)
		}
		b.broker.set(func() { b.broker.fail = nil })
		b.pass(5 * time.Second)
		inOrder(b.T, b.broker.got, 20)
	})
}

func TestRelay_sets_a_message_aside_that_the_broker_never_takes(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.fail = func(m *driver.Message) (error, bool) {
			if strings.HasPrefix(m.ID, "big") {
				return fmt.Errorf("%w: 9 MiB", driver.ErrTooLarge), false
			}
			return nil, false
		}
		b.publish("stock", "", "big1") // alone, with nothing that passes beside it
		b.publish("stock", "k", "big2", "follows")
		b.publish("stock", "other", "1")
		b.want(time.Second, "1")
		if st := b.stats(); st.Held != 3 || st.Backlog != 0 {
			b.Errorf("stats %+v", st)
		}
		held, err := b.db.Browse(b.Context(), 0, store.Position{}, 10)
		b.must(err)
		if len(held) != 3 || !strings.Contains(held[0].Lane.Error, "9 MiB") {
			b.Errorf("held %+v", held)
		}
	})
}

func TestRelay_finds_the_message_that_spoils_a_batch(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.broker.set(func() {
			b.broker.away = func() error {
				for _, id := range b.broker.sends[len(b.broker.sends)-1] {
					if id == "17" {
						return driver.ErrTooLarge // of the whole batch, whose index it does not say
					}
				}
				return nil
			}
		})
		for i := range 40 {
			b.publish("stock", "", fmt.Sprint(i))
		}
		b.pass(time.Second)
		got := b.broker.ids()
		if len(got) != 39 || slices.Contains(got, "17") || b.stats().Held != 1 {
			b.Errorf("%d came, held %d", len(got), b.stats().Held)
		}
	})
}

func TestRelay_comes_back_after_the_database_was_down(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		f := &faulty{Store: b.db}
		b.svc.components = nil
		b.box = outbox.New(b.svc, f)
		b.start()
		defer b.stop()
		b.publish("stock", "k", "1")
		b.want(time.Second, "1")
		f.set(func() { f.err = errDown })
		b.publish("stock", "k", "2")
		b.pass(time.Minute)
		if n := b.logs.count(); n > 25 {
			b.Errorf("%d log records in a minute: %v", n, b.logs.records)
		}
		f.set(func() { f.err = nil })
		b.pass(10 * time.Second)
		inOrder(b.T, b.broker.got, 2)
		if st := b.stats(); st.Backlog != 0 || st.Trouble != "" {
			b.Errorf("stats %+v", st)
		}
	})
}

func TestRelay_of_one_of_many_boxes_leads(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		for range 20 {
			outbox.New(b.svc, b.db)
		}
		b.start()
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			b.publish("stock", "k", want[i])
			b.pass(time.Second)
		}
		b.stop()
		b.want(0, want...)
	})
}

func TestRelay_is_taken_over_at_once_after_a_shutdown(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		b.start()
		b.publish("stock", "k", "1")
		b.want(time.Second, "1")
		b.stop()
		b.publish("stock", "k", "2")
		b.svc.components = nil
		b.box = outbox.New(b.svc, b.db)
		b.start()
		b.want(0, "1", "2")
		b.stop()
	})
}

func TestRelay_publishes_nothing_after_its_lease_has_passed(t *testing.T) {
	idle(t, outbox.Options{Lease: 10 * time.Second}, func(b *bench) {
		f := &faulty{Store: b.db}
		slow := &broker{caps: driver.Capabilities{Name: "slow"}}
		svc := &service{name: "catalog", conn: slow, log: b.svc.log}
		box := outbox.New(svc, f, outbox.Options{Lease: 10 * time.Second})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { b.must(svc.components[0].Run(ctx)) })
		b.box, b.svc.components = outbox.New(b.svc, b.db), nil
		b.publish("stock", "k", "1")
		b.pass(time.Second)
		if got := slow.ids(); len(got) != 1 {
			b.Fatalf("the first leader published %v", got)
		}
		// The first leader cannot reach the database any more.
		f.set(func() { f.err = errDown })
		b.svc.components = nil
		b.box = outbox.New(b.svc, b.db)
		b.start()
		b.pass(20 * time.Second)
		b.publish("stock", "k", "2")
		b.want(time.Second, "2")
		// It can again, and finds that another leads.
		f.set(func() { f.err = nil })
		b.publish("stock", "k", "3")
		b.want(time.Minute, "2", "3")
		if got := slow.ids(); len(got) != 1 {
			b.Errorf("the leader whose lease passed published %v", got)
		}
		cancel()
		wg.Wait()
		b.stop()
		_ = box
	})
}

func TestRelay_of_another_service_is_refused(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.pass(time.Second)
		b.stop()
		svc := &service{name: "payment", conn: b.broker, log: b.svc.log}
		outbox.New(svc, b.db)
		err := svc.components[0].Run(b.Context())
		if !errors.Is(err, store.ErrOwner) || !strings.Contains(err.Error(), "catalog") {
			b.Errorf("error %v, want one that names the owner", err)
		}
	})
}

func TestRelay_publishes_what_is_left_when_the_service_ends(t *testing.T) {
	idle(t, outbox.Options{Batch: 3}, func(b *bench) {
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
		}
		b.start()
		b.pass(0)
		b.publish("stock", "k", want...)
		b.stop()
		b.want(0, want...)
		if st := b.stats(); st.Backlog != 0 {
			b.Errorf("stats %+v: what was published is not written down", st)
		}
	})
}

func TestRelay_ends_in_time_while_the_broker_hangs(t *testing.T) {
	idle(t, outbox.Options{DrainTimeout: 3 * time.Second}, func(b *bench) {
		hanging := &hangingBroker{&broker{}}
		b.svc.conn, b.svc.components = hanging, nil
		b.box = outbox.New(b.svc, b.db, outbox.Options{DrainTimeout: 3 * time.Second})
		b.publish("stock", "k", "1")
		b.start()
		b.pass(time.Second)
		began := time.Now()
		b.stop()
		if d := time.Since(began); d > 5*time.Second {
			b.Errorf("it took %v", d)
		}
		if st := b.stats(); st.Backlog != 1 {
			b.Errorf("stats %+v", st)
		}
	})
}

type hangingBroker struct{ *broker }

func (h *hangingBroker) Send(ctx context.Context, _ []*driver.Message) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestRelay_has_the_cursor_moved_along_with_what_it_reads(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		f := &faulty{Store: b.db, along: true}
		b.svc.components = nil
		b.box = outbox.New(b.svc, f, outbox.Options{CursorInterval: 100 * time.Millisecond})
		b.start()
		defer b.stop()
		for i := range 40 { // something to read every 20 ms
			b.publish("stock", "k", fmt.Sprint(i))
			b.pass(20 * time.Millisecond)
		}
		f.set(func() {
			if f.moved[0] < 10 || f.moved[1] > 0 {
				b.Errorf("moved by %d reads and %d times besides, want every 60 ms and never", f.moved[0], f.moved[1])
			}
		})
		b.pass(time.Second) // nothing more to read: the rest is written down by itself
		f.set(func() {
			if f.moved[1] != 1 {
				b.Errorf("moved %d times in the end, want once", f.moved[1])
			}
		})
		if st := b.stats(); st.Behind != 0 || st.Backlog != 0 || st.Published != 40 {
			b.Errorf("stats %+v, want all published and nothing behind", st)
		}
	})
}

func TestRelay_retires_what_was_published(t *testing.T) {
	within(t, outbox.Options{CleanupInterval: 5 * time.Second}, func(b *bench) {
		b.publish("stock", "k", "1", "2", "3")
		b.pass(20 * time.Second)
		page, err := b.db.Next(b.Context(), store.Term{}, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
		b.must(err)
		if len(page.Rows) != 0 {
			b.Errorf("%d rows are left", len(page.Rows))
		}
	})
}

// forgetful is a broker that forgets what it confirmed when it is started again.
type forgetful struct {
	*broker
	mu          sync.Mutex
	incarnation string
	window      time.Duration
	err         error
}

func (f *forgetful) Incarnation(context.Context) (string, time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.incarnation, f.window, f.err
}

// Rows are kept for as long as the broker may forget, and as long as it has not said
// how long that is; a broker that cannot say so keeps none for ever.
func TestRelay_retires_what_a_broker_cannot_have_forgotten(t *testing.T) {
	for name, tt := range map[string]struct {
		f       *forgetful
		retired bool
	}{
		"says a window":            {&forgetful{incarnation: "first", window: time.Minute}, true},
		"forgets nothing":          {&forgetful{incarnation: "durable"}, true},
		"cannot tell":              {&forgetful{err: fmt.Errorf("this server: %w", driver.ErrUnsupported)}, true},
		"has no name":              {&forgetful{}, true},
		"says a long window":       {&forgetful{incarnation: "first", window: time.Hour}, false},
		"is away when it is asked": {&forgetful{err: driver.ErrRetryable}, false},
	} {
		t.Run(name, func(t *testing.T) {
			idle(t, outbox.Options{CleanupInterval: 5 * time.Second}, func(b *bench) {
				tt.f.broker = b.broker
				b.svc.conn, b.svc.components = tt.f, nil
				b.box = outbox.New(b.svc, b.db)
				b.start()
				b.publish("stock", "k", "1", "2", "3")
				b.pass(10 * time.Minute)
				page, err := b.db.Next(b.Context(), store.Term{}, store.Position{}, store.Position{}, store.Limit{Rows: 10, Bytes: 1 << 20})
				b.must(err)
				if left := len(page.Rows); tt.retired != (left == 0) {
					b.Errorf("%d rows are left", left)
				}
				b.stop()
			})
		})
	}
}

func TestRelay_publishes_again_what_a_broker_may_have_forgotten(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		f := &forgetful{broker: b.broker, incarnation: "first", window: time.Minute}
		b.svc.conn, b.svc.components = f, nil
		b.box = outbox.New(b.svc, b.db)
		b.start()
		b.publish("stock", "k", "old")
		b.pass(3 * time.Minute) // longer than it is retained
		b.publish("stock", "k", "1", "2")
		b.publish("stock", "j", "3")
		b.pass(time.Minute)
		b.stop()
		before := b.broker.ids()
		if len(before) != 4 {
			b.Fatalf("published %v", before)
		}
		// The machine loses power and starts again: a new process, a new
		// incarnation.
		f.incarnation = "second"
		b.svc.components = nil
		b.box = outbox.New(b.svc, b.db)
		b.start()
		b.publish("stock", "k", "4")
		b.pass(3 * time.Second)
		b.stop()
		again := b.broker.got[4:]
		inOrder(b.T, again, 4)
		if ids := b.broker.ids(); slices.Contains(ids[4:], "old") {
			b.Errorf("%v: what was published long ago is published again", ids)
		}
	})
}

// A broker that is started again and forgets less than the one before: what that one may
// have forgotten is still there when the relay comes to publish it again, however long
// a send takes meanwhile.
func TestRelay_deletes_nothing_before_it_publishes_again(t *testing.T) {
	idle(t, outbox.Options{CleanupInterval: time.Second}, func(b *bench) {
		f := &forgetful{broker: b.broker, incarnation: "first", window: time.Minute}
		b.svc.conn, b.svc.components = f, nil
		b.box = outbox.New(b.svc, b.db)
		b.start()
		b.publish("stock", "k", "1", "2", "3")
		b.pass(5 * time.Second)
		var slow sync.Once
		b.broker.set(func() {
			b.broker.away = func() error {
				slow.Do(func() { <-time.After(20 * time.Second) })
				return nil
			}
		})
		b.publish("stock", "k", "4")
		b.pass(time.Second) // the send is under way
		f.mu.Lock()
		f.incarnation, f.window = "second", 0
		f.mu.Unlock()
		b.pass(time.Minute)
		b.stop()
		if ids := b.broker.ids(); !slices.Equal(ids, []string{"1", "2", "3", "4", "1", "2", "3", "4"}) {
			b.Errorf("published %v, want all four again", ids)
		}
	})
}

// A broker that fails in every way, at random, while transactions come: in the
// end every message has come, in the order of its key.
func TestRelay_loses_nothing_and_keeps_the_order_whatever_fails(t *testing.T) {
	for seed := range uint64(24) {
		batched := seed%2 == 1
		t.Run(fmt.Sprintf("%d ordered batch %v", seed, batched), func(t *testing.T) {
			idle(t, outbox.Options{Batch: 7, CursorInterval: 30 * time.Millisecond, CleanupInterval: time.Second, HoldAfter: 200 * time.Millisecond}, func(b *bench) {
				r, faults := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
				kinds := []error{driver.ErrRetryable, driver.ErrNotFound, driver.ErrDenied, errors.New("odd"), driver.ErrTooLarge}
				sick := map[string]error{} // keys and channels that fail for a while
				if b.broker.caps.OrderedBatch = batched; batched {
					kinds = kinds[:4] // no message of this size is too large
				}
				b.broker.fail = func(m *driver.Message) (error, bool) {
					for _, name := range []string{m.Channel, m.Channel + m.Key} {
						if err := sick[name]; err != nil {
							return err, errors.Is(err, driver.ErrRetryable) && faults.IntN(2) == 0
						}
					}
					if faults.IntN(20) == 0 {
						return driver.ErrRetryable, faults.IntN(2) == 0
					}
					return nil, false
				}
				b.broker.away = func() error {
					if faults.IntN(15) == 0 {
						return kinds[faults.IntN(2)]
					}
					return nil
				}
				b.start()
				const n = 400
				number := map[string]int{}
				for range n {
					channel, key := fmt.Sprint("c", r.IntN(3)), fmt.Sprint("k", r.IntN(5))
					if r.IntN(6) == 0 {
						key = ""
					}
					number[channel+key]++
					b.publish(channel, key, fmt.Sprintf("%d-%s-%s", number[channel+key], channel, key))
					b.broker.set(func() {
						switch r.IntN(10) {
						case 0:
							sick[channel] = kinds[r.IntN(len(kinds))]
						case 1:
							sick[channel+key] = kinds[r.IntN(len(kinds))]
						case 2, 3:
							clear(sick)
						}
					})
					if r.IntN(3) == 0 {
						b.pass(time.Duration(r.IntN(600)) * time.Millisecond)
					}
					if r.IntN(80) == 0 {
						b.stop() // and another process goes on
						b.svc.components = nil
						b.box = outbox.New(b.svc, b.db, outbox.Options{Batch: 7, CleanupInterval: time.Second, HoldAfter: 200 * time.Millisecond})
						b.start()
					}
				}
				b.broker.set(func() { b.broker.fail, b.broker.away = nil, nil })
				b.pass(10 * time.Minute)
				inOrder(b.T, b.broker.got, n)
				if st := b.stats(); st.Held != 0 || st.Backlog != 0 || st.Trouble != "" {
					b.Errorf("stats %+v", st)
				}
				b.stop()
			})
		})
	}
}

var _ dovetail.Sender = (*outbox.Buffered[*memstore.Tx])(nil)
