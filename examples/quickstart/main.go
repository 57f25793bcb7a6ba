// Quickstart is a service with a call, an event and a transaction. It keeps its files in .cache.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	_ "github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

type Item struct {
	SKU   string
	Count int
}

// Other services import the contracts: a call they may make, an event they may hear.
var ReserveStock = dovetail.NewCall[Item, Item]("catalog.reserve-stock")
var StockRanLow = dovetail.NewEvent[Item]("catalog.stock-ran-low").Keyed(func(i Item) string { return i.SKU })

func reserve(ctx context.Context, tx *sql.Tx, out dovetail.Sender, want Item) (left Item, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE stock SET count = count - ?2 WHERE sku = ?1 AND count >= ?2
		RETURNING sku, count`, want.SKU, want.Count).Scan(&left.SKU, &left.Count)
	if errors.Is(err, sql.ErrNoRows) {
		err = dovetail.Refuse("out-of-stock", "fewer than %d of %s", want.Count, want.SKU)
	} else if err == nil && left.Count < 10 {
		err = StockRanLow.Publish(ctx, out, left)
	}
	return left, err
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	svc := must(dovetail.Open(ctx, "catalog", "embedded:.cache/quickstart")) // or nats://host:4222, file:…, mem:
	db := must(sqlitestore.Open(ctx, ".cache/quickstart/catalog.db"))
	must(db.DB().ExecContext(ctx, `DROP TABLE IF EXISTS stock; CREATE TABLE stock AS SELECT 'mug' AS sku, 12 AS count`))
	svc.Declare(ReserveStock, StockRanLow)
	ReserveStock.Handle(svc, inbox.Answer(outbox.New(svc, db), reserve))
	heard := make(chan Item, 1)
	StockRanLow.Subscribe(svc, func(_ context.Context, low Item) error { heard <- low; return nil })
	go func() {
		fmt.Println(ReserveStock.Request(ctx, svc, Item{"mug", 3}))
		fmt.Println("ran low:", <-heard)
		stop()
	}()
	fmt.Println("ended:", errors.Join(svc.Run(ctx), db.Close())) // serves until ctx ends, drains, closes
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
