package filebus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/filebus"
)

// What one process has sent waits in the directory for another.
func Example() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("", "filebus")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	url := "file:" + filepath.Join(tmp, "bus")
	orders := driver.Channel{Name: "orders", Kind: driver.PointToPoint}
	billing := driver.Subscription{Channel: orders, Group: "billing", Instance: "billing-1", Window: 10}

	sender, err := driver.Open(ctx, url)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = sender.Provision(ctx, []driver.Channel{orders}, nil)
	if err == nil {
		err = sender.Send(ctx, []*driver.Message{{Channel: "orders", ID: "1", Key: "customer-7", Body: []byte("two of them")}})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	sender.Close(ctx)

	consumer, err := driver.Open(ctx, url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer consumer.Close(ctx)
	if err := consumer.Provision(ctx, nil, []driver.Subscription{billing}); err != nil {
		fmt.Println(err)
		return
	}
	r, err := consumer.OpenReceiver(ctx, billing)
	if err != nil {
		fmt.Println(err)
		return
	}
	ds, err := r.Receive(ctx, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range ds {
		fmt.Printf("%s of %s: %s\n", d.Message.ID, d.Message.Key, d.Message.Body)
	}
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}); err != nil {
		fmt.Println(err)
	}
	// Output: 1 of customer-7: two of them
}

// Options say how durable a confirmed message is.
func ExampleOpen() {
	tmp, err := os.MkdirTemp("", "filebus")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	ctx := context.Background()
	c, err := filebus.Open(ctx, filebus.Options{Dir: filepath.Join(tmp, "bus"), Sync: filebus.SyncOS})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close(ctx)
	_, window, err := c.Incarnation(ctx)
	fmt.Println("a loss of power takes at most the last", window, err)
	// Output: a loss of power takes at most the last 1m0s <nil>
}
