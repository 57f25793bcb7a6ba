// Lending is a library's loans desk: a service that is the same on every broker.
// The first argument is the broker's URL, by default one inside the process:
//
//	go run ./examples/quickstart/lending
//	go run ./examples/quickstart/lending nats://127.0.0.1:4222
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	_ "github.com/dovetail-go/dovetail/transport/filebus"          // file:
	_ "github.com/dovetail-go/dovetail/transport/natsbus/embedded" // embedded:, nats:
)

func main() {
	url := "embedded:.cache/lending"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, url, "lending.db"); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, url, file string) error {
	svc, err := dovetail.Open(ctx, "lending", url)
	if err != nil {
		return err
	}
	db, err := sqlitestore.Open(ctx, file)
	if err == nil {
		_, err = db.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS loans (book TEXT PRIMARY KEY, reader TEXT)`)
	}
	if err != nil {
		return err
	}
	register(svc, db)
	Borrowed.Subscribe(svc, func(_ context.Context, l Loan) error {
		fmt.Printf("%s took %s home\n", l.Reader, l.Book)
		return nil
	})
	return errors.Join(svc.Run(ctx), db.Close())
}
