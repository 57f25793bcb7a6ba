package outbox_test

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

type order struct{ ID string }

var orderPlaced = dovetail.NewEvent[order]("ordering.order-placed").Keyed(func(o order) string { return o.ID })

// An order and the event that tells of it commit together; the relay, which
// runs with the service, publishes the event.
func ExampleBox_Do() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	svc := dovetail.New("ordering", bus.Connect(), dovetail.Options{})
	box := outbox.New(svc, memstore.New())
	svc.Declare(orderPlaced)
	heard := make(chan order)
	orderPlaced.Subscribe(svc, func(ctx context.Context, o order) error { heard <- o; return nil })
	ended := make(chan error)
	go func() { ended <- svc.Run(ctx) }()
	<-svc.Ready()

	err = box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
		tx.Put("order/7", []byte("tea"))
		return orderPlaced.Publish(ctx, out, order{ID: "7"})
	})
	fmt.Println(err, <-heard)
	stop()
	fmt.Println(<-ended)
	// Output:
	// <nil> {7}
	// <nil>
}

// A transaction that other code begins and commits takes messages with it, too.
func ExampleBox_Sender() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	svc := dovetail.New("ordering", bus.Connect(), dovetail.Options{})
	db := memstore.New()
	box := outbox.New(svc, db)
	svc.Declare(orderPlaced)

	tx, err := db.Begin(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(orderPlaced.Publish(ctx, box.Sender(tx), order{ID: "8"}))
	fmt.Println(db.Commit(ctx, tx, store.Writes{}))
	box.Wake()
	stats, err := box.Stats(ctx)
	fmt.Println(stats.Backlog, err)
	// Output:
	// <nil>
	// <nil>
	// 1 <nil>
}
