package dovetail_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/transport/filebus"
)

// Two instances of a service share a durable broker, of which only one handles
// version 2; every message is handled in the end.
func TestRollingDeploy_loses_nothing_under_load(t *testing.T) {
	conn, err := filebus.Open(t.Context(), filebus.Options{Dir: t.TempDir(), Sync: filebus.SyncOS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	const n = 400
	var mu sync.Mutex
	seen := map[string]bool{}
	all := make(chan struct{})
	handle := func(kind string) func(context.Context, item) error {
		return func(_ context.Context, i item) error {
			mu.Lock()
			defer mu.Unlock()
			if id := fmt.Sprint(kind, "/", i.Count); !seen[id] {
				seen[id] = true
				if len(seen) == 4*n {
					close(all)
				}
			}
			return nil
		}
	}
	named := func(instance string) dovetail.Options {
		o := quick
		o.Instance = instance
		return o
	}
	old := dovetail.New("billing", conn, named("old"))
	paidV1.Subscribe(old, handle("paid"))
	billV1.Handle(old, handle("bill"))
	shop := dovetail.New("shop", conn, quick)
	shop.Declare(paidV1, paidV2, billV1, billV2)
	start(t, old, shop)
	send := func(from, to int) {
		var wg sync.WaitGroup
		for i := from; i < to; i++ {
			it := item{Count: i}
			wg.Go(func() {
				for _, err := range []error{paidV1.Publish(t.Context(), shop, it), paidV2.Publish(t.Context(), shop, it),
					billV1.Send(t.Context(), shop, it), billV2.Send(t.Context(), shop, it)} {
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	send(0, n/2)
	fresh := dovetail.New("billing", conn, named("new"))
	paidV1.Subscribe(fresh, handle("paid"))
	paidV2.Subscribe(fresh, handle("paid2"))
	billV1.Handle(fresh, handle("bill"))
	billV2.Handle(fresh, handle("bill2"))
	start(t, fresh)
	send(n/2, n)
	select {
	case <-all:
	case <-time.After(60 * time.Second):
		mu.Lock()
		defer mu.Unlock()
		t.Errorf("%d of %d handled", len(seen), 4*n)
	}
	t.Logf("%d were forwarded", old.Stats().Unhandled)
}
