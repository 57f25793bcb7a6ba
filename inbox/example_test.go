package inbox_test

import (
	"context"
	"fmt"
	"strconv"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/memstore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A request that is asked again under the same id has no second effect and gets
// the same answer.
func ExampleAnswer() {
	serve(func(ctx context.Context, svc *dovetail.Service) {
		for range 2 {
			left, err := reserve.Request(ctx, svc, item{"tea", 3}, dovetail.ID("order-1/reserve"))
			fmt.Println(left, err)
		}
		_, err := reserve.Request(ctx, svc, item{"tea", 30})
		fmt.Println(err)
	}, func(svc *dovetail.Service, box *outbox.Box[*memstore.Tx]) {
		reserve.Handle(svc, inbox.Answer(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, want item) (item, error) {
			have := 10
			if v, ok := tx.Get(want.SKU); ok {
				have, _ = strconv.Atoi(string(v))
			}
			if have < want.Count {
				return item{}, dovetail.Refuse("out-of-stock", "fewer than %d of %s", want.Count, want.SKU)
			}
			left := item{want.SKU, have - want.Count}
			tx.Put(want.SKU, []byte(strconv.Itoa(left.Count)))
			return left, ranLow.Publish(ctx, out, left)
		}))
	})
	// Output:
	// {tea 7} <nil>
	// {tea 7} <nil>
	// catalog refused: fewer than 30 of tea (out-of-stock)
}

// An event that is delivered twice is handled once.
func ExampleOnce() {
	done := make(chan item)
	serve(func(ctx context.Context, svc *dovetail.Service) {
		for _, id := range []string{"a", "a", "b"} {
			if err := arrived.Publish(ctx, svc, item{"tea", 1}, dovetail.ID(id)); err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println(<-done, <-done)
	}, func(svc *dovetail.Service, box *outbox.Box[*memstore.Tx]) {
		arrived.Subscribe(svc, inbox.Once(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			done <- i
			return nil
		}))
	})
	// Output:
	// {tea 1} {tea 1}
}

// Many events share one transaction.
func ExampleBatch() {
	done := make(chan item, 3)
	serve(func(ctx context.Context, svc *dovetail.Service) {
		if err := arrived.PublishAll(ctx, svc, []item{{"tea", 1}, {"rum", 1}, {"ice", 1}}); err != nil {
			fmt.Println(err)
		}
		n := 0
		for range 3 {
			n += (<-done).Count
		}
		fmt.Println(n)
	}, func(svc *dovetail.Service, box *outbox.Box[*memstore.Tx]) {
		arrived.SubscribeBatch(svc, inbox.Batch(box, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender, i item) error {
			tx.Put(i.SKU, []byte(strconv.Itoa(i.Count)))
			done <- i
			return nil
		}))
	})
	// Output:
	// 3
}

// serve runs a service while use uses it.
func serve(use func(context.Context, *dovetail.Service), register func(*dovetail.Service, *outbox.Box[*memstore.Tx])) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	svc := dovetail.New("catalog", bus.Connect(), dovetail.Options{})
	svc.Declare(reserve, arrived, ranLow)
	register(svc, outbox.New(svc, memstore.New()))
	ended := make(chan error)
	go func() { ended <- svc.Run(ctx) }()
	<-svc.Ready()
	use(ctx, svc)
	stop()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
}
