package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

type item struct {
	SKU   string
	Count int
}

var (
	reserveStock = dovetail.NewCall[item, item]("catalog.reserve-stock")
	stockRanLow  = dovetail.NewEvent[item]("catalog.stock-ran-low").Keyed(func(i item) string { return i.SKU })
)

// A call whose handler changes a row, publishes an event and answers, all in
// one transaction.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "catalog.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if _, err := db.DB().ExecContext(ctx, `CREATE TABLE stock (sku TEXT PRIMARY KEY, count INTEGER NOT NULL);
		INSERT INTO stock VALUES ('tea', 11)`); err != nil {
		fmt.Println(err)
		return
	}
	bus, err := membus.New(membus.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	svc := dovetail.New("catalog", bus.Connect(), dovetail.Options{})
	box := outbox.New(svc, db)

	reserveStock.Handle(svc, inbox.Answer(box, func(ctx context.Context, tx *sql.Tx, out dovetail.Sender, want item) (item, error) {
		left := item{SKU: want.SKU}
		err := tx.QueryRowContext(ctx, `UPDATE stock SET count = count - ?1 WHERE sku = ?2 AND count >= ?1 RETURNING count`,
			want.Count, want.SKU).Scan(&left.Count)
		if err == sql.ErrNoRows {
			return left, dovetail.Refuse("out-of-stock", "fewer than %d of %s", want.Count, want.SKU)
		}
		if err == nil && left.Count < 10 {
			err = stockRanLow.Publish(ctx, out, left)
		}
		return left, err
	}))
	svc.Declare(reserveStock, stockRanLow)
	low := make(chan item)
	stockRanLow.Subscribe(svc, func(ctx context.Context, i item) error { low <- i; return nil })

	ended := make(chan error)
	run, stop := context.WithCancel(ctx)
	go func() { ended <- svc.Run(run) }()
	<-svc.Ready()

	left, err := reserveStock.Request(ctx, svc, item{"tea", 3}, dovetail.ID("order-1/reserve"))
	fmt.Println(left.Count, err)
	left, err = reserveStock.Request(ctx, svc, item{"tea", 3}, dovetail.ID("order-1/reserve"))
	fmt.Println(left.Count, err)
	_, err = reserveStock.Request(ctx, svc, item{"tea", 30})
	fmt.Println(err)
	fmt.Println("low:", (<-low).Count)
	stop()
	fmt.Println(<-ended)
	// Output:
	// 8 <nil>
	// 8 <nil>
	// catalog refused: fewer than 30 of tea (out-of-stock)
	// low: 8
	// <nil>
}
