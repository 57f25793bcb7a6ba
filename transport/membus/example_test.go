package membus_test

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A bus of one's own, as in a test: two connections see each other's messages.
func Example() {
	ctx := context.Background()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	sender, consumer := bus.Connect(), bus.Connect()
	defer sender.Close(ctx)
	defer consumer.Close(ctx)

	orders := driver.Channel{Name: "orders"}
	worker := driver.Subscription{Channel: orders, Group: "billing", Instance: "one", Window: 10}
	if err := consumer.Provision(ctx, []driver.Channel{orders}, []driver.Subscription{worker}); err != nil {
		fmt.Println(err)
		return
	}
	if err := sender.Send(ctx, []*driver.Message{{Channel: "orders", ID: "1", Body: []byte("two books")}}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := consumer.OpenReceiver(ctx, worker)
	if err != nil {
		fmt.Println(err)
		return
	}
	deliveries, err := r.Receive(ctx, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range deliveries {
		fmt.Printf("%s: %s (attempt %d)\n", d.Message.ID, d.Message.Body, d.Attempt)
		err = r.Settle(ctx, []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})
	}
	fmt.Println(err)
	// Output:
	// 1: two books (attempt 1)
	// <nil>
}

// A bus that all of the process share by name.
func Example_url() {
	ctx := context.Background()
	a, err := driver.Open(ctx, "mem:shop?messages=1000")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close(ctx)
	b, err := driver.Open(ctx, "mem:shop")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(ctx)
	_ = a.Provision(ctx, []driver.Channel{{Name: "orders"}}, nil)
	infos, err := b.(driver.Lister).Channels(ctx)
	fmt.Println(len(infos), infos[0].Channel.Name, err)

	_, err = driver.Open(ctx, "mem:shop?size=3")
	fmt.Println(err)
	// Output:
	// 1 orders <nil>
	// open mem:shop: membus: unknown parameter "size" (known: bytes, message-bytes, messages, partitions, wait)
}
