package drivertest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// testFull has two senders with keys of their own send batches that do not fit.
func testFull(e *env) {
	full := func() driver.Conn { return e.open(e.h.Full) }
	c := full()
	group := e.group(c)
	group.Each, group.s.Window = time.Millisecond, 8 // what is in hand need not count
	const keys = 100
	batch := keys * e.batch(5)
	n := max(e.h.Many/4, 4*batch)
	var wg sync.WaitGroup
	for _, prefix := range []string{"a", "b"} {
		sender := full()
		wg.Go(func() {
			for i := 0; i < n; i += batch {
				if err := group.Send(context.Background(), sender, Numbered(group.s.Channel.Name, prefix, i, min(n, i+batch), keys)); err != nil {
					e.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	// Whoever makes room begins when there is none.
	group.until("a send that is refused", func() bool { return group.failed > 0 })
	for i := range e.several() {
		group.Join(full(), fmt.Sprint(i))
	}
	wg.Wait()
	group.Check()
}
