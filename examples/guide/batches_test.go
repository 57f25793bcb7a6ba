package guide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/memstore"
)

type Reading struct {
	Meter string `json:"meter"`
	Watts int    `json:"watts"`
}

var (
	Metered    = dovetail.NewEvent[Reading]("metering.metered").Keyed(func(r Reading) string { return r.Meter })
	Overloaded = dovetail.NewEvent[Reading]("metering.overloaded").Keyed(func(r Reading) string { return r.Meter })
)

// write hands all readings to a search index in one request. The index says by
// position which of them it does not take.
func write(bulk func([]Reading) (rejected map[int]error, err error)) func(context.Context, []Reading) []error {
	return func(_ context.Context, rs []Reading) []error {
		rejected, err := bulk(rs)
		errs := make([]error, len(rs))
		for i := range rs {
			switch {
			case err != nil:
				errs[i] = err // the request failed: each reading is tried again
			case rejected[i] != nil:
				errs[i] = dovetail.Permanent(rejected[i]) // this one is a dead letter
			}
		}
		return errs
	}
}

func readings(n int) (rs []Reading) {
	for i := range n {
		rs = append(rs, Reading{Meter: fmt.Sprint("m", i), Watts: i})
	}
	return rs
}

// metered runs a service with one batch handler, and publishes n readings to it.
func metered(t *testing.T, n int, opts dovetail.Options, handle func(context.Context, []Reading) []error, sub ...dovetail.SubscribeOption) (*dovetail.Service, []dovetail.DeadLetter) {
	t.Helper()
	var svc *dovetail.Service
	var dead []dovetail.DeadLetter
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc = h.Service("metering", opts)
		Metered.SubscribeBatch(svc, handle, append(sub, dovetail.Concurrency(1))...)
		svc.Declare(Metered)
		h.Start()
		if err := Metered.PublishAll(t.Context(), svc, readings(n)); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Hour)
		dead = h.DeadLetters("metering")
	})
	return svc, dead
}

func TestBatch_has_an_error_for_each_message(t *testing.T) {
	var sizes []int
	svc, dead := metered(t, 5, dovetail.Options{}, write(func(rs []Reading) (map[int]error, error) {
		sizes = append(sizes, len(rs))
		if len(sizes) == 1 {
			return nil, errDown
		}
		i := slices.IndexFunc(rs, func(r Reading) bool { return r.Watts == 3 })
		if i < 0 {
			return nil, nil
		}
		return map[int]error{i: errors.New("no number")}, nil
	}))
	if st := svc.Stats(); sizes[0] != 5 || st.Retried != 5 || st.Handled != 4 || len(dead) != 1 || dead[0].Error != "no number" || dead[0].Attempts != 2 {
		t.Errorf("batches of %v, %+v, dead letters %+v", sizes, st, dead)
	}
}

func TestBatch_counts_no_attempt_where_it_panics_as_a_whole(t *testing.T) {
	var batches []string
	once := dovetail.Retry(dovetail.RetryPolicy{Attempts: 1})
	svc, dead := metered(t, 4, dovetail.Options{}, func(_ context.Context, rs []Reading) []error {
		batches = append(batches, fmt.Sprint(len(rs)))
		if slices.ContainsFunc(rs, func(r Reading) bool { return r.Watts == 2 }) {
			panic("two")
		}
		return nil
	}, once)
	if got := strings.Join(batches, " "); got != "4 1 1 1 1" || svc.Stats().Handled != 3 || len(dead) != 1 || dead[0].Attempts != 1 {
		t.Errorf("batches of %s, %+v, dead letters %+v", got, svc.Stats(), dead)
	}
}

func TestBatch_fails_each_message_where_the_number_of_errors_is_wrong(t *testing.T) {
	calls := 0
	svc, dead := metered(t, 3, dovetail.Options{}, func(_ context.Context, rs []Reading) []error {
		calls++
		return make([]error, len(rs)+1)
	}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 2, Jitter: -1}))
	if calls < 2 || svc.Stats().Handled != 0 || len(dead) != 3 || dead[0].Attempts != 2 || !strings.Contains(dead[0].Error, "want none or one each") {
		t.Errorf("%d calls, %+v, dead letters %+v", calls, svc.Stats(), dead)
	}
}

func TestBatch_keeps_the_order_of_each_key(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var mu sync.Mutex
		got := map[string][]int{}
		failed := false
		svc := h.Service("metering")
		Metered.SubscribeBatch(svc, func(_ context.Context, rs []Reading) []error {
			mu.Lock()
			defer mu.Unlock()
			errs := make([]error, len(rs))
			seen := map[string]bool{}
			for i, r := range rs {
				if seen[r.Meter] {
					t.Errorf("meter %s twice in a batch", r.Meter)
				}
				seen[r.Meter] = true
				if r.Meter == "a" && r.Watts == 0 && !failed {
					failed, errs[i] = true, errDown
					continue
				}
				got[r.Meter] = append(got[r.Meter], r.Watts)
			}
			return errs
		})
		svc.Declare(Metered)
		h.Start()
		var rs []Reading
		for watts := range 4 {
			rs = append(rs, Reading{"a", watts}, Reading{"b", watts}, Reading{"c", watts})
		}
		if err := Metered.PublishAll(t.Context(), svc, rs); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		handled := func() string { mu.Lock(); defer mu.Unlock(); return fmt.Sprint(got) }
		if s := handled(); s != "map[b:[0 1 2 3] c:[0 1 2 3]]" {
			t.Errorf("before the next attempt at a: %s", s)
		}
		h.Advance(time.Second)
		if s := handled(); s != "map[a:[0 1 2 3] b:[0 1 2 3] c:[0 1 2 3]]" {
			t.Errorf("at last: %s", s)
		}
	})
}

// alarm sends from a batch handler, each event with the context of the reading
// that causes it.
func alarm(svc *dovetail.Service) func(context.Context, []Reading) []error {
	return func(ctx context.Context, rs []Reading) []error {
		errs := make([]error, len(rs))
		for i, in := range dovetail.Batch(ctx) {
			if rs[i].Watts > 2 {
				errs[i] = Overloaded.Publish(in.Context(ctx), svc, rs[i])
			}
		}
		return errs
	}
}

func TestBatch_sends_in_the_name_of_each_message(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var causes []string
		svc := h.Service("metering", dovetail.Options{Concurrency: 1})
		Metered.SubscribeBatch(svc, alarm(svc))
		Overloaded.Subscribe(svc, func(ctx context.Context, _ Reading) error {
			causes = append(causes, dovetail.DeliveryFromContext(ctx).Message.CausationID)
			return nil
		})
		svc.Declare(Metered, Overloaded)
		h.Start()
		for i, r := range readings(5) {
			if err := Metered.Publish(t.Context(), svc, r, dovetail.ID(fmt.Sprint("reading-", i))); err != nil {
				t.Fatal(err)
			}
		}
		// A body that cannot be decoded fails alone, and is not in the batch.
		h.Deliver(&driver.Message{Channel: "metering.metered", ID: "broken", Type: "metering.metered.v1", Body: []byte("{")})
		h.Settle()
		slices.Sort(causes) // no order holds between two keys
		if s := fmt.Sprint(causes, len(h.DeadLetters("metering"))); s != "[reading-3 reading-4] 1" {
			t.Errorf("causes and dead letters: %s", s)
		}
	})
}

// save is called for one reading, in the transaction of the whole batch.
func save(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, r Reading) error {
	if r.Watts < 0 {
		return dovetail.Refuse("negative", "meter %s says %d", r.Meter, r.Watts)
	}
	tx.Put(r.Meter, fmt.Append(nil, r.Watts))
	if r.Watts > 2 {
		return Overloaded.Publish(ctx, out, r)
	}
	return nil
}

// saveAll has svc save readings, up to 200 in one transaction.
func saveAll(svc *dovetail.Service, db *memstore.Store) {
	Metered.SubscribeBatch(svc, inbox.Batch(outbox.New(svc, db), save), dovetail.BatchSize(200), dovetail.Concurrency(2))
	svc.Declare(Overloaded)
}

func TestInboxBatch_undoes_one_message_alone(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		db := memstore.New()
		svc := h.Service("metering")
		saveAll(svc, db)
		alarms := map[string]int{}
		Overloaded.Subscribe(svc, func(_ context.Context, r Reading) error { alarms[r.Meter]++; return nil }, dovetail.Concurrency(1))
		svc.Declare(Metered)
		h.Start()
		rs := readings(5)
		rs[1].Watts = -1
		for range 2 { // the second time as copies, under the same ids
			for i, r := range rs {
				if err := Metered.Publish(t.Context(), svc, r, dovetail.ID(fmt.Sprint("reading-", i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.Advance(time.Second)
		if s := fmt.Sprint(db.Keys(), alarms, svc.Stats().Refused, len(h.DeadLetters("metering"))); s != "[m0 m2 m3 m4] map[m3:1 m4:1] 2 0" {
			t.Errorf("keys, alarms, refusals and dead letters: %s", s)
		}
	})
}
