package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

type item struct {
	SKU   string
	Count int
}

var (
	reserve = dovetail.NewCall[item, item]("catalog.reserve-stock")
	arrived = dovetail.NewEvent[item]("catalog.stock-arrived").Keyed(func(i item) string { return i.SKU })
	ranLow  = dovetail.NewEvent[item]("catalog.stock-ran-low")
)

// shop is a service with a box on a memstore, which counts what happens.
type shop struct {
	*testing.T
	h   *dovetailtest.Harness
	svc *dovetail.Service
	db  *flaky
	box *outbox.Box[*memstore.Tx]

	mu   sync.Mutex
	runs int      // of handlers
	low  []string // ids of the ranLow events that came
}

// flaky is a store whose next commit of a handler can go wrong.
type flaky struct {
	*memstore.Store
	mu     sync.Mutex
	commit func(ctx context.Context, tx *memstore.Tx, w store.Writes) error
}

func (f *flaky) Commit(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
	f.mu.Lock()
	commit := f.commit
	f.commit = nil
	f.mu.Unlock()
	if commit != nil {
		return commit(ctx, tx, w)
	}
	return f.Store.Commit(ctx, tx, w)
}

func within(t *testing.T, test func(s *shop)) {
	t.Helper()
	withinOf(t, outbox.Options{}, test)
}

func withinOf(t *testing.T, opts outbox.Options, test func(s *shop)) {
	t.Helper()
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		s := &shop{T: t, h: h, svc: h.Service("shop"), db: &flaky{Store: memstore.New()}}
		s.box = outbox.New(s.svc, s.db, opts)
		s.svc.Declare(reserve, arrived, ranLow)
		ranLow.Subscribe(s.svc, func(ctx context.Context, i item) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.low = append(s.low, dovetail.DeliveryFromContext(ctx).Message.ID)
			return nil
		})
		test(s)
	})
}

// ran counts a handler's run and returns its number, from 1.
func (s *shop) ran() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	return s.runs
}

func (s *shop) want(runs int, stock string) {
	s.Helper()
	s.h.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs != runs {
		s.Errorf("the handler ran %d times, want %d", s.runs, runs)
	}
	if v, _ := s.db.Get("tea"); string(v) != stock {
		s.Errorf("stock %q, want %q", v, stock)
	}
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// add is the effect: it adds to the stock and publishes.
func add(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
	have := 0
	if v, ok := tx.Get(i.SKU); ok {
		have, _ = strconv.Atoi(string(v))
	}
	i.Count += have
	tx.Put(i.SKU, strconv.AppendInt(nil, int64(i.Count), 10))
	return i, ranLow.Publish(ctx, out, i)
}

func TestAnswer_has_one_effect_and_one_answer_for_each_request(t *testing.T) {
	within(t, func(s *shop) {
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			s.ran()
			return add(ctx, tx, out, i)
		}))
		s.h.Start()
		for range 3 {
			res, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("order-1/reserve"))
			if res.Count != 5 || err != nil {
				s.Fatalf("answer %+v, %v", res, err)
			}
		}
		s.want(1, "5")
		res, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("order-2/reserve"))
		if res.Count != 10 || err != nil {
			s.Fatalf("answer %+v, %v", res, err)
		}
		s.want(2, "10")
		if len(s.low) != 2 {
			s.Errorf("%d events, want 2", len(s.low))
		}
	})
}

func TestAnswer_keeps_a_refusal_and_undoes_the_work(t *testing.T) {
	within(t, func(s *shop) {
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			s.ran()
			if _, err := add(ctx, tx, out, i); err != nil {
				return i, err
			}
			return i, dovetail.Refuse("out-of-stock", "no %s", i.SKU)
		}))
		s.h.Start()
		for range 3 {
			_, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("order-1/reserve"))
			var r *dovetail.Refusal
			if !errors.As(err, &r) || r.Code != "out-of-stock" || r.Message != "no tea" {
				s.Fatalf("error %v, want the refusal", err)
			}
		}
		s.want(1, "")
		if len(s.low) != 0 {
			s.Errorf("%d events of undone work", len(s.low))
		}
	})
}

func TestAnswer_undoes_everything_and_runs_again_after_an_error(t *testing.T) {
	within(t, func(s *shop) {
		var ids []string
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			n := s.ran()
			if n == 2 {
				panic("boom")
			}
			res, err := add(ctx, tx, recorder{out, &ids}, i)
			if n < 3 {
				return res, errors.New("not yet")
			}
			return res, err
		}))
		s.h.Start()
		res, err := reserve.Request(s.Context(), s.svc, item{"tea", 5})
		if res.Count != 5 || err != nil {
			s.Fatalf("answer %+v, %v", res, err)
		}
		s.want(3, "5")
		if len(s.low) != 1 || len(ids) != 2 || ids[0] != ids[1] || s.low[0] != ids[0] {
			s.Errorf("events %v of the attempts' %v: want one, with the id that every attempt gave", s.low, ids)
		}
	})
}

// recorder takes note of the ids that are sent.
type recorder struct {
	dovetail.Sender
	ids *[]string
}

func (r recorder) Send(ctx context.Context, ms []*driver.Message) error {
	for _, m := range ms {
		*r.ids = append(*r.ids, m.ID)
	}
	return r.Sender.Send(ctx, ms)
}

func TestAnswer_finds_out_what_became_of_its_commit(t *testing.T) {
	for name, commits := range map[string]bool{"committed": true, "rolled back": false} {
		t.Run(name, func(t *testing.T) {
			within(t, func(s *shop) {
				reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
					s.ran()
					return add(ctx, tx, out, i)
				}))
				s.h.Start()
				s.db.commit = func(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
					if commits {
						s.must(s.db.Store.Commit(ctx, tx, w))
					} else {
						s.must(s.db.Store.Rollback(ctx, tx))
					}
					return fmt.Errorf("%w: connection reset", store.ErrUnknown)
				}
				res, err := reserve.Request(s.Context(), s.svc, item{"tea", 5})
				if res.Count != 5 || err != nil {
					s.Fatalf("answer %+v, %v", res, err)
				}
				runs := 1
				if !commits {
					runs = 2
				}
				s.want(runs, "5")
			})
		})
	}
}

func TestAnswer_gives_the_kept_answer_to_a_copy_that_comes_too_late(t *testing.T) {
	within(t, func(s *shop) {
		var copied *driver.Message
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			s.ran()
			m := *dovetail.DeliveryFromContext(ctx).Message
			copied = &m
			return add(ctx, tx, out, i)
		}))
		s.h.Start()
		_, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.Within(time.Second))
		s.must(err)
		before := s.svc.Stats()
		s.h.Advance(time.Minute)
		s.h.Deliver(copied)
		s.want(1, "5")
		after := s.svc.Stats()
		if after.Expired != before.Expired {
			s.Errorf("the copy was answered as expired")
		}
	})
}

func TestOnce_has_one_effect_for_each_group(t *testing.T) {
	within(t, func(s *shop) {
		for _, name := range []string{"", "second"} {
			var opts []dovetail.SubscribeOption
			if name != "" {
				opts = append(opts, dovetail.Group(name))
			}
			arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
				s.ran()
				_, err := add(ctx, tx, out, i)
				return err
			}), opts...)
		}
		s.h.Start()
		for range 3 {
			s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("delivery-1")))
		}
		s.want(2, "10")
	})
}

func TestOnce_lets_Do_join_its_transaction(t *testing.T) {
	within(t, func(s *shop) {
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			n := s.ran()
			err := s.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				_, err := add(ctx, tx, out, i)
				return err
			})
			if n == 1 {
				return errors.New("not yet")
			}
			return err
		}))
		s.h.Start()
		s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}))
		s.h.Advance(time.Second)
		s.want(2, "5")
	})
}

func TestOnce_keeps_copies_of_a_dead_letter_out_until_it_is_requeued(t *testing.T) {
	within(t, func(s *shop) {
		broken := true
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			s.ran()
			if _, err := add(ctx, tx, out, i); broken {
				return dovetail.Permanent(errors.Join(err, errors.New("broken")))
			}
			return nil
		}))
		s.h.Start()
		publish := func() {
			s.Helper()
			s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("delivery-1")))
		}
		publish()
		s.want(1, "")
		publish() // a copy of what is dead: settled, not run, not dead twice
		s.want(1, "")
		letters := s.h.DeadLetters("shop")
		if len(letters) != 1 {
			s.Fatalf("%d dead letters, want 1", len(letters))
		}
		s.h.Requeue(letters[0])
		s.want(2, "") // still broken
		if letters = s.h.DeadLetters("shop"); len(letters) != 1 {
			s.Fatalf("%d dead letters, want 1", len(letters))
		}
		publish()
		s.want(2, "")
		broken = false
		s.h.Requeue(letters[0])
		s.want(3, "5")
		s.h.Requeue(letters[0]) // twice, by mistake
		publish()
		s.want(3, "5")
		if letters = s.h.DeadLetters("shop"); len(letters) != 0 {
			s.Errorf("%d dead letters, want none", len(letters))
		}
	})
}

func TestOnce_does_not_run_what_was_cancelled(t *testing.T) {
	within(t, func(s *shop) {
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			s.ran()
			return nil
		}))
		s.h.Start()
		s.must(s.box.Do(s.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			k := store.Key{Group: "shop", Handler: arrived.Spec().Type(), Source: "shop", ID: "undone"}
			_, err := s.db.Mark(ctx, tx, []store.Entry{{Key: k, Since: time.Now()}}, store.Cancelled)
			return err
		}))
		s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("undone")))
		s.want(0, "")
		if n := len(s.h.DeadLetters("shop")); n != 0 {
			s.Errorf("%d dead letters", n)
		}
	})
}

func TestHandlers_outside_a_service_say_so(t *testing.T) {
	within(t, func(s *shop) {
		nothing := func(context.Context, *memstore.Tx, dovetail.Sender, item) error { return nil }
		if err := inbox.Once(s.box, nothing)(s.Context(), item{}); !errors.Is(err, inbox.ErrNoMessage) {
			s.Errorf("Once: %v", err)
		}
		if errs := inbox.Batch(s.box, nothing)(s.Context(), make([]item, 2)); len(errs) != 2 || !errors.Is(errs[1], inbox.ErrNoMessage) {
			s.Errorf("Batch: %v", errs)
		}
	})
}

func TestBatch_handles_each_message_once_and_undoes_failures_alone(t *testing.T) {
	within(t, func(s *shop) {
		calls := map[string]int{}
		ids := map[string][]string{}
		handle := inbox.Batch(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			calls[i.SKU]++
			var sent []string
			_, err := add(ctx, tx, recorder{out, &sent}, i)
			ids[i.SKU] = append(ids[i.SKU], sent...)
			switch {
			case err != nil:
				return err
			case i.SKU == "b" && calls["b"] < 3:
				return errors.New("not yet")
			case i.SKU == "c":
				return dovetail.Refuse("no", "not this one")
			case dovetail.DeliveryFromContext(ctx) == nil:
				s.Error("an item's context has no message")
			}
			return nil
		})
		arrived.SubscribeBatch(s.svc, handle, dovetail.Concurrency(1))
		s.h.Start()
		deliver := func() { // all at once, again under the same ids
			var all []*driver.Message
			for _, sku := range []string{"a", "b", "c", "d"} {
				all = append(all, &driver.Message{Channel: arrived.Spec().Channel.Name, ID: "delivery-" + sku, Source: "docks",
					Type: arrived.Spec().Type(), Key: sku, ContentType: "application/json", Body: []byte(`{"SKU":"` + sku + `","Count":1}`)})
			}
			s.h.Deliver(all...)
			s.h.Advance(time.Second)
		}
		deliver()
		before := maps.Clone(calls)
		if calls["b"] != 3 { // the others once or twice, as they came before b or c or behind
			s.Errorf("calls %v: want three of b", calls)
		}
		deliver()
		if !maps.Equal(calls, before) {
			s.Errorf("calls %v, and with copies %v", before, calls)
		}
		for sku, sent := range ids {
			if same := slices.Compact(slices.Clone(sent)); len(same) != 1 {
				s.Errorf("calls for %s sent the ids %v: want one", sku, same)
			}
		}
		if keys := s.db.Keys(); !slices.Equal(keys, []string{"a", "b", "d"}) {
			s.Errorf("effects on %v, want on all but c, which was refused", keys)
		}
		for _, sku := range s.db.Keys() {
			if v, _ := s.db.Get(sku); string(v) != "1" {
				s.Errorf("%s of %s, want 1", v, sku)
			}
		}
		if len(s.low) != 3 {
			s.Errorf("%d events, want 3", len(s.low))
		}
		if n := len(s.h.DeadLetters("shop")); n != 0 {
			s.Errorf("%d dead letters", n)
		}
	})
}

func TestBatch_shares_a_commit_and_fails_together_with_it(t *testing.T) {
	within(t, func(s *shop) {
		sizes := []int{}
		handle := inbox.Batch(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			s.ran()
			_, err := add(ctx, tx, out, item{"tea", 1})
			return err
		})
		arrived.SubscribeBatch(s.svc, func(ctx context.Context, is []item) []error {
			sizes = append(sizes, len(is))
			return handle(ctx, is)
		}, dovetail.Concurrency(1))
		s.h.Start()
		s.db.commit = func(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
			s.must(s.db.Store.Rollback(ctx, tx))
			return errors.New("disk full")
		}
		var all []item
		for i := range 50 {
			all = append(all, item{fmt.Sprint(i), 1})
		}
		s.must(arrived.PublishAll(s.Context(), s.svc, all))
		s.h.Advance(time.Minute)
		if v, _ := s.db.Get("tea"); string(v) != "50" {
			s.Errorf("%s effects, want 50", v)
		}
		if sizes[0] < 32 { // as many as are fetched before their sizes are known
			s.Errorf("batches of %v, want many at first", sizes)
		}
	})
}

func TestInbox_forgets_what_was_handled_long_ago(t *testing.T) {
	withinOf(t, outbox.Options{InboxRetention: time.Minute}, func(s *shop) {
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			s.ran()
			return nil
		}))
		s.h.Start()
		publish := func() { s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("delivery-1"))) }
		publish()
		s.h.Advance(50 * time.Second)
		publish()
		s.want(1, "")
		s.h.Advance(20 * time.Second)
		publish()
		s.want(2, "")
	})
}

func TestOnce_takes_the_refusal_of_another_service_for_a_failure(t *testing.T) {
	within(t, func(s *shop) {
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			if s.ran() < 3 {
				return fmt.Errorf("ask: %w", &dovetail.RemoteRefusal{Service: "mill", Code: "busy"})
			}
			_, err := add(ctx, tx, out, i)
			return err
		}))
		s.h.Start()
		s.must(arrived.Publish(s.Context(), s.svc, item{"tea", 5}))
		s.h.Advance(time.Minute)
		s.want(3, "5")
	})
}

func TestAnswer_runs_again_for_a_caller_who_was_told_of_the_failure(t *testing.T) {
	within(t, func(s *shop) {
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			if s.ran() == 1 {
				return i, dovetail.Permanent(errors.New("the mill is away"))
			}
			return add(ctx, tx, out, i)
		}))
		s.h.Start()
		var failed *dovetail.RemoteError
		if _, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("1")); !errors.As(err, &failed) {
			s.Fatalf("got %v", err)
		}
		s.h.Settle()
		if got, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("1")); err != nil || got.Count != 5 {
			s.Fatalf("asked again: %v, %v", got, err)
		}
		s.want(2, "5")
		// A person who requeues the dead letter as well repeats nothing.
		dead := s.h.DeadLetters("shop")
		if len(dead) != 1 {
			s.Fatalf("%d dead letters", len(dead))
		}
		s.h.Requeue(dead[0])
		s.want(2, "5")
	})
}

func TestAnswer_over_the_limit_undoes_the_work_and_is_told_at_once(t *testing.T) {
	within(t, func(s *shop) {
		reserve.Handle(s.svc, inbox.Answer(s.box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) (item, error) {
			s.ran()
			if _, err := add(ctx, tx, out, i); err != nil {
				return i, err
			}
			return item{SKU: strings.Repeat("x", 2<<20)}, nil
		}))
		s.h.Start()
		begin := time.Now()
		var failed *dovetail.RemoteError
		_, err := reserve.Request(s.Context(), s.svc, item{"tea", 5}, dovetail.ID("1"))
		if !errors.As(err, &failed) || !strings.Contains(failed.Message, "limit") || time.Since(begin) > time.Second {
			s.Fatalf("got %v after %v", err, time.Since(begin))
		}
		s.want(1, "")
	})
}

func TestOnce_hides_that_a_message_waited_twice(t *testing.T) {
	within(t, func(s *shop) {
		v2 := arrived.Version(2)
		arrived.Subscribe(s.svc, inbox.Once(s.box, func(context.Context, *memstore.Tx, dovetail.Sender, item) error { return nil }))
		s.h.Start()
		m := &driver.Message{Channel: v2.Spec().Channel.Name, Type: v2.Spec().Type(), ID: "1", Source: "mill", Key: "tea", Body: []byte(`{"SKU":"tea","Count":5}`)}
		s.h.Deliver(m, m) // as after a crash between the letter and the settlement
		s.h.Settle()
		waiting := s.h.Waiting("shop")
		if len(waiting) != 2 || waiting[0].ID != waiting[1].ID || s.svc.Stats().Unhandled != 2 {
			s.Fatalf("%d wait: %+v", len(waiting), waiting)
		}
		fresh := s.h.Service("shop")
		box := outbox.New(fresh, s.db)
		fresh.Declare(ranLow)
		v2.Subscribe(fresh, inbox.Once(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			s.ran()
			_, err := add(ctx, tx, out, i)
			return err
		}))
		s.h.Start()
		s.h.Settle()
		s.want(1, "5")
		s.h.Deliver(m) // once more, late: to either of them
		s.h.Advance(30 * time.Second)
		s.want(1, "5")
		if n := len(s.h.Waiting("shop")); n != 0 {
			s.Errorf("%d still wait", n)
		}
	})
}
