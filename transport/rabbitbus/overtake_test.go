package rabbitbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// The link is lost while a message is handled, the server delivers it again, and
// then the attempt fails: the later ones of its key wait for the next attempt.
func TestService_keeps_order_where_the_link_is_lost_and_the_handler_fails(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, partitions := range map[string]int{"one queue": 0, "partitions": 3} {
		t.Run(name, func(t *testing.T) {
			drivertest.CheckLeaks(t)
			proxy := servers.NewProxy(t, srv.Addr())
			o := through(t, srv, proxy.Addr())
			o.Partitions = partitions
			svc := dovetail.New("slow", connect(t, o), dovetail.Options{Logger: o.Logger})
			work := dovetail.NewCommand[int](fmt.Sprintf("slow.work-%d", time.Now().UnixNano())).Keyed(func(int) string { return "one key" })
			const n = 5
			var mu sync.Mutex
			var handled []int
			all, sent := make(chan struct{}), make(chan struct{})
			failed := false
			work.Handle(svc, func(ctx context.Context, i int) error {
				<-sent
				if !failed { // one at a time
					failed = true
					proxy.Cut()
					proxy.Heal()
					for svc.Stats().Redelivered == 0 && ctx.Err() == nil {
						pause(ctx, 10*time.Millisecond)
					}
					return errors.New("not at the first time")
				}
				mu.Lock()
				defer mu.Unlock()
				if !slices.Contains(handled, i) {
					if handled = append(handled, i); len(handled) == n {
						close(all)
					}
				}
				return nil
			})
			svc.Declare(work)
			ctx, stop := context.WithCancel(within(t))
			ended := make(chan error, 1)
			go func() { ended <- svc.Run(ctx) }()
			<-svc.Ready()
			for i := range n {
				if err := work.Send(within(t), svc, i); err != nil {
					t.Fatal(err)
				}
			}
			close(sent)
			select {
			case <-all:
			case err := <-ended:
				t.Fatalf("the service ended: %v", err)
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
			if !slices.Equal(handled, []int{0, 1, 2, 3, 4}) {
				t.Errorf("handled in the order %v", handled)
			}
		})
	}
}
