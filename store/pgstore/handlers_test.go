package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

var takeStock = dovetail.NewCommand[item]("catalog.take-stock").Keyed(func(i item) string { return i.SKU })

// take is code under test: a handler over pgx.
func take(ctx context.Context, tx pgx.Tx, out dovetail.Sender, want item) error {
	left := item{SKU: want.SKU}
	err := tx.QueryRow(ctx, `UPDATE stock SET count = count - $1 WHERE sku = $2 AND count >= $1 RETURNING count`, want.Count, want.SKU).Scan(&left.Count)
	if errors.Is(err, pgx.ErrNoRows) {
		return dovetail.Refuse("out-of-stock", "fewer than %d of %s", want.Count, want.SKU)
	}
	if err == nil && left.Count < 10 {
		err = stockRanLow.Publish(ctx, out, left)
	}
	return err
}

// shopDatabase is a database of the test's own, with eleven packets of tea.
func shopDatabase(t *testing.T) *pgstore.Store {
	t.Helper()
	name := schema(t.TempDir())
	separator := "?"
	if strings.Contains(server(t), "?") {
		separator = "&"
	}
	db, err := pgstore.Open(t.Context(), server(t)+separator+"search_path="+name, pgstore.Options{Schema: name})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	_, err = db.Pool().Exec(t.Context(), `CREATE TABLE stock (sku text PRIMARY KEY, count int NOT NULL); INSERT INTO stock VALUES ('tea', 11)`)
	must(t, err)
	return db
}

// A handler is a function: it is called with a transaction that is rolled back,
// and a recorder.
func TestTake_says_that_stock_ran_low(t *testing.T) {
	tx, err := shopDatabase(t).Pool().Begin(t.Context())
	must(t, err)
	defer func() { must(t, tx.Rollback(t.Context())) }()
	rec := dovetailtest.NewRecorder("catalog")
	must(t, take(t.Context(), tx, rec, item{"tea", 3}))
	if got := dovetailtest.Sent(t, rec, stockRanLow); len(got) != 1 || got[0] != (item{"tea", 8}) {
		t.Errorf("sent %v", got)
	}
}

// The service with its inbox and outbox runs in the world's time.
func TestTake_takes_effect_once(t *testing.T) {
	dovetailtest.RunLive(t, func(t *testing.T, h *dovetailtest.Harness) {
		db := shopDatabase(t)
		svc := h.Service("catalog")
		takeStock.Handle(svc, inbox.Once(outbox.New(svc, db), take))
		var mu sync.Mutex
		var low []item
		stockRanLow.Subscribe(svc, func(_ context.Context, left item) error {
			mu.Lock()
			defer mu.Unlock()
			low = append(low, left)
			return nil
		})
		svc.Declare(takeStock, stockRanLow)
		h.Start()
		for range 2 { // the second time under the same id, as after a crash
			must(t, takeStock.Send(t.Context(), svc, item{"tea", 3}, dovetail.ID("order-1")))
		}
		h.Settle()
		h.Until("the outbox has published", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(low) > 0
		})
		var count int
		must(t, db.Pool().QueryRow(t.Context(), `SELECT count FROM stock WHERE sku = 'tea'`).Scan(&count))
		if count != 8 || low[0] != (item{"tea", 8}) {
			t.Errorf("%d left, told %v", count, low)
		}
	})
}

// In a bubble, where it would hang, the store says what to do; the two tests
// above do that.
func TestStore_in_a_bubble_is_refused_with_the_remedy(t *testing.T) {
	url, db := server(t), shopDatabase(t)
	began := time.Now()
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		_, err := pgstore.Open(t.Context(), url)
		for _, remedy := range []string{"dovetailtest.RunLive", "with a transaction and a dovetailtest.Recorder"} {
			if !errors.Is(err, store.ErrBubble) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("open: %v", err)
			}
		}
		if _, err := pgstore.OpenSQL(t.Context(), url); !errors.Is(err, store.ErrBubble) {
			t.Errorf("open for database/sql: %v", err)
		}
		// One that was opened outside is no better.
		svc := h.Service("catalog")
		box := outbox.New(svc, db)
		svc.Declare(stockRanLow)
		h.Start()
		if err := box.Do(t.Context(), func(context.Context, pgx.Tx, dovetail.Sender) error { return nil }); !errors.Is(err, store.ErrBubble) {
			t.Errorf("do: %v", err)
		}
	})
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
