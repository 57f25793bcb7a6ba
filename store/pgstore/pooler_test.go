package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// A pooler gives sessions away by the transaction: prepared statements are lost,
// and the error says what to set. With that the outbox and the inbox work.
func TestPooler_without_the_exec_mode_is_told_the_remedy_and_works_with_it(t *testing.T) {
	direct, err := url.Parse(server(t))
	must(t, err)
	pooled := *direct
	pooled.Host = strings.TrimPrefix(strings.Split(servers.Start(t, servers.PgBouncer(direct.Host)).URL(), "?")[0], "postgres://postgres@")
	pooled.Host = strings.TrimSuffix(pooled.Host, "/postgres")
	name := schema(t.TempDir())

	hurry := func(url string) (n int, err error) {
		db, err := pgstore.Open(t.Context(), url, pgstore.Options{Schema: name})
		if err != nil {
			return 0, err
		}
		defer func() { must(t, db.Close()) }()
		var mu sync.Mutex
		var errs []error
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 20 {
					tx, err := db.Begin(t.Context())
					if err == nil {
						var one int
						if err = tx.QueryRow(t.Context(), fmt.Sprintf("SELECT %d + $1::int", i%5), 1).Scan(&one); err == nil {
							err = db.Commit(t.Context(), tx, store.Writes{Token: dovetail.NewID()})
						} else {
							err = errors.Join(err, db.Rollback(t.Context(), tx))
						}
					}
					mu.Lock()
					if n++; err != nil {
						errs = append(errs, err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return n, errors.Join(errs...)
	}
	_, err = hurry(pooled.String())
	if err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Fatalf("without the mode: %v", err)
	}

	q := pooled.Query()
	q.Set("default_query_exec_mode", "exec") // the remedy
	pooled.RawQuery = q.Encode()
	if n, err := hurry(pooled.String()); err != nil || n != 160 {
		t.Fatalf("with the mode: %d transactions, %v", n, err)
	}
	dovetailtest.RunLive(t, func(t *testing.T, h *dovetailtest.Harness) {
		db, err := pgstore.Open(t.Context(), pooled.String(), pgstore.Options{Schema: name, Prefix: "live_"})
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		svc := h.Service("catalog", dovetail.Options{})
		box := outbox.New(svc, db, outbox.Options{Poll: 20 * time.Millisecond})
		var mu sync.Mutex
		var low []item
		takeStock.Handle(svc, inbox.Once(box, func(ctx context.Context, _ pgx.Tx, out dovetail.Sender, i item) error {
			return stockRanLow.Publish(ctx, out, i)
		}))
		stockRanLow.Subscribe(svc, func(_ context.Context, i item) error {
			mu.Lock()
			defer mu.Unlock()
			low = append(low, i)
			return nil
		})
		svc.Declare(takeStock, stockRanLow)
		h.Start()
		must(t, takeStock.SendAll(t.Context(), svc, []item{{"a", 1}, {"b", 2}, {"c", 3}, {"a", 4}}))
		h.Until("all four are published", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(low) == 4
		})
	})
}

// Handlers that hold more connections than the pool has are told so.
func TestPool_that_handlers_use_up_says_what_to_raise(t *testing.T) {
	name := schema(t.TempDir())
	for flavour, try := range map[string]func(conns int) error{
		"pgx": func(conns int) error {
			db, err := pgstore.Open(t.Context(), server(t), pgstore.Options{Schema: name, Conns: conns, Timeout: time.Second})
			must(t, err)
			return beginTwice(t, db)
		},
		"database/sql": func(conns int) error {
			db, err := pgstore.OpenSQL(t.Context(), server(t), pgstore.Options{Schema: name, Conns: conns, Timeout: time.Second})
			must(t, err)
			return beginTwice(t, db)
		},
	} {
		t.Run(flavour, func(t *testing.T) {
			err := try(1)
			for _, want := range []string{"all 1 connections of the pool are in use", "Options.Conns", "pool_max_conns", "dovetail.Concurrency"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if err := try(2); err != nil { // the remedy
				t.Errorf("with two: %v", err)
			}
		})
	}
}

// beginTwice begins a transaction beside another, and returns what becomes of it.
// It closes the store.
func beginTwice[Tx any](t *testing.T, db interface {
	store.DB[Tx]
	Close() error
}) error {
	defer func() { must(t, db.Close()) }()
	tx, err := db.Begin(t.Context())
	must(t, err)
	defer func() { must(t, db.Rollback(t.Context(), tx)) }()
	second, err := db.Begin(t.Context())
	if err == nil {
		must(t, db.Rollback(t.Context(), second))
	}
	return err
}
