package kafkabus_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
)

// A message to a channel and back. It needs a broker on this machine.
func Example() {
	ctx := context.Background()
	conn, err := kafkabus.Connect(ctx, kafkabus.Options{Brokers: []string{"127.0.0.1:9092"}})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)

	sub := driver.Subscription{Channel: driver.Channel{Name: "orders", Partitions: 12}, Group: "billing", Instance: "1", Window: 100, Ordered: true}
	if err := conn.Provision(ctx, nil, []driver.Subscription{sub}); err != nil {
		log.Fatal(err)
	}
	if err := conn.Send(ctx, []*driver.Message{{Channel: "orders", ID: "1", Source: "shop", Key: "customer-7", Body: []byte("two of these")}}); err != nil {
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
}
