package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	_ "github.com/dovetail-go/dovetail/transport/membus"
)

// Contracts are declared once, usually in a package of their own, and imported
// by both sides.
type Item struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

var (
	ReserveStock = dovetail.NewCall[Item, Item]("example.reserve-stock")
	StockRanLow  = dovetail.NewEvent[Item]("example.stock-ran-low").Keyed(func(i Item) string { return i.SKU })
	SendWelcome  = dovetail.NewCommand[string]("example.send-welcome")
	CacheView    = dovetail.NewSurvey[string, int]("example.cache-view")
)

// serve runs a service until stop is called.
func serve(svc *dovetail.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- svc.Run(ctx) }()
	<-svc.Ready()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Println(err)
		}
	}
}

func Example() {
	ctx := context.Background()
	svc, err := dovetail.Open(ctx, "catalog", "mem:")
	if err != nil {
		fmt.Println(err)
		return
	}
	stock := map[string]int{"85123A": 12}
	ReserveStock.Handle(svc, func(ctx context.Context, want Item) (Item, error) {
		if stock[want.SKU] < want.Count {
			return Item{}, dovetail.Refuse("out-of-stock", "fewer than %d of %s", want.Count, want.SKU)
		}
		stock[want.SKU] -= want.Count
		left := Item{want.SKU, stock[want.SKU]}
		return left, StockRanLow.Publish(ctx, svc, left)
	}, dovetail.Concurrency(1))
	low := make(chan Item, 1)
	StockRanLow.Subscribe(svc, func(_ context.Context, i Item) error { low <- i; return nil })
	svc.Declare(ReserveStock, StockRanLow)
	defer serve(svc)()

	left, err := ReserveStock.Request(ctx, svc, Item{"85123A", 6})
	fmt.Println(left.Count, err)
	fmt.Println("ran low:", <-low)

	_, err = ReserveStock.Request(ctx, svc, Item{"85123A", 100})
	var refusal *dovetail.RemoteRefusal
	fmt.Println(errors.As(err, &refusal), refusal.Code)
	// Output:
	// 6 <nil>
	// ran low: {85123A 6}
	// true out-of-stock
}

func ExampleCommand_Send() {
	svc, _ := dovetail.Open(context.Background(), "mail", "mem:")
	sent := make(chan string, 1)
	SendWelcome.Handle(svc, func(_ context.Context, name string) error { sent <- name; return nil })
	svc.Declare(SendWelcome)
	defer serve(svc)()

	// The id makes it safe to send again, for a caller that may be killed.
	err := SendWelcome.Send(context.Background(), svc, "17850", dovetail.ID("welcome/17850"))
	fmt.Println(<-sent, err)
	// Output: 17850 <nil>
}

func ExampleEvent_SubscribeBatch() {
	svc, _ := dovetail.Open(context.Background(), "catalog", "mem:")
	var count int
	done := make(chan struct{})
	StockRanLow.SubscribeBatch(svc, func(_ context.Context, items []Item) []error {
		errs := make([]error, len(items))
		for i, item := range items {
			if item.Count < 0 {
				errs[i] = dovetail.Discard(fmt.Errorf("count of %s is negative", item.SKU))
			}
			if count++; count == 3 {
				close(done)
			}
		}
		return errs
	}, dovetail.BatchSize(50), dovetail.Concurrency(1))
	svc.Declare(StockRanLow)
	defer serve(svc)()

	err := StockRanLow.PublishAll(context.Background(), svc, []Item{{"a", 1}, {"b", -1}, {"c", 3}})
	<-done
	fmt.Println(count, err)
	// Output: 3 <nil>
}

func ExampleSurvey_Gather() {
	ctx := context.Background()
	svc, _ := dovetail.Open(ctx, "catalog", "mem:", dovetail.Options{Instance: "one"})
	CacheView.Handle(svc, func(_ context.Context, sku string) (int, error) { return len(sku), nil })
	svc.Declare(CacheView)
	defer serve(svc)()

	for a, err := range CacheView.Gather(ctx, svc, "85123A", dovetail.Within(5*time.Second), dovetail.Quorum(1)) {
		fmt.Println(a.Service, a.Instance, a.Value, err)
	}
	// Output: catalog one 6 <nil>
}

func ExampleDeadLetter_Requeue() {
	var letter dovetail.DeadLetter // as ParseDeadLetter read it from the channel dead.catalog
	letter.Message = new(driver.Message)
	letter.Service, letter.Group, letter.Handler = "catalog", "catalog.purchasing", "example.stock-ran-low.v1"

	m := letter.Requeue() // to that group and handler, and to no other
	fmt.Println(m.Channel)
	// Output: requeue.catalog
}
