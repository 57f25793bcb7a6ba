package pgstore_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

type item struct {
	SKU   string
	Count int
}

var stockRanLow = dovetail.NewEvent[item]("catalog.stock-ran-low").Keyed(func(i item) string { return i.SKU })

// exampleServer is a PostgreSQL server to try the store out with.
func exampleServer(ctx context.Context) (url string, end func() error, err error) {
	if url := os.Getenv(urlVariable); url != "" {
		return url, func() error { return nil }, nil
	}
	srv, err := servers.Launch(ctx, servers.Postgres)
	if err != nil {
		return "", nil, err
	}
	return srv.URL(), srv.Close, nil
}

// A change of a row and an event that commit together.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	url, end, err := exampleServer(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	db, err := pgstore.Open(ctx, url, pgstore.Options{Schema: "catalog"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if _, err := db.Pool().Exec(ctx, `DROP TABLE IF EXISTS catalog.stock;
		CREATE TABLE catalog.stock (sku text PRIMARY KEY, count int NOT NULL);
		INSERT INTO catalog.stock VALUES ('tea', 11)`); err != nil {
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
	svc.Declare(stockRanLow)
	low := make(chan item, 1)
	stockRanLow.Subscribe(svc, func(ctx context.Context, i item) error { low <- i; return nil })
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- svc.Run(run) }()
	<-svc.Ready()

	err = box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
		left := item{SKU: "tea"}
		err := tx.QueryRow(ctx, `UPDATE catalog.stock SET count = count - 3 WHERE sku = $1 RETURNING count`, left.SKU).Scan(&left.Count)
		if err != nil {
			return err
		}
		return stockRanLow.Publish(ctx, out, left)
	})
	fmt.Println(err)
	fmt.Println("low:", (<-low).Count)
	stop()
	fmt.Println(<-ended)
	// Output:
	// <nil>
	// low: 8
	// <nil>
}
