package embedded_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// A server in the process, and a message through it.
func Example() {
	dir, err := os.MkdirTemp("", "shop")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	conn, err := embedded.Open(ctx, embedded.Options{Dir: dir}, natsbus.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	sub := driver.Subscription{Channel: driver.Channel{Name: "orders"}, Group: "billing", Instance: "1", Window: 100}
	if err := conn.Provision(ctx, nil, []driver.Subscription{sub}); err != nil {
		log.Fatal(err)
	}
	if err := conn.Send(ctx, []*driver.Message{{Channel: "orders", ID: "1", Source: "shop", Body: []byte("two of these")}}); err != nil {
		log.Fatal(err)
	}
	r, err := conn.OpenReceiver(ctx, sub)
	if err != nil {
		log.Fatal(err)
	}
	ds, err := r.Receive(ctx, 10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", ds[0].Message.Body)
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}); err != nil {
		log.Fatal(err)
	}
	// Output: two of these
}
