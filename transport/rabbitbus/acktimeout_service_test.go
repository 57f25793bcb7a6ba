package rabbitbus_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// A handler that takes three times consumer_timeout runs once. Its outcome
// counts when the server delivers the message again, and what follows of its key
// goes on.
func TestService_handles_once_what_the_server_took_back(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	const timeout = 4 * time.Second // far above what a busy machine holds up
	shortAckTimeout(t, srv, timeout)
	o := optionsFor(t, srv)
	o.AckTimeout = -1 // the service might refuse what it can foresee
	svc := dovetail.New("slow", connect(t, o), dovetail.Options{Logger: o.Logger})
	work := dovetail.NewCommand[int](fmt.Sprintf("slow.work-%d", time.Now().UnixNano())).Keyed(func(int) string { return "one key" })
	const n = 3
	var mu sync.Mutex
	var handled []int
	all := make(chan struct{})
	work.Handle(svc, func(ctx context.Context, i int) error {
		if i == 0 {
			pause(ctx, 3*timeout)
		}
		mu.Lock()
		defer mu.Unlock()
		if handled = append(handled, i); len(handled) == n {
			close(all)
		}
		return ctx.Err()
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
	select {
	case <-all:
	case err := <-ended:
		t.Fatalf("the service ended: %v", err)
	}
	// What is handled is settled when it comes again.
	for ctx := within(t); queued(t, srv, work.Spec().Channel.Name) > 0; pause(ctx, time.Second) {
		if ctx.Err() != nil {
			t.Error("what was handled is not settled")
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if !slices.Equal(handled, []int{0, 1, 2}) {
		t.Errorf("handled %v, want each once and in order", handled)
	}
}

// queued is how many messages a queue has, those in hand counted.
func queued(t testing.TB, srv *servers.Server, queue string) int {
	t.Helper()
	for line := range strings.Lines(ctl(t, srv, "-q", "list_queues", "name", "messages")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == queue {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("queue %s is not listed", queue)
	return 0
}
