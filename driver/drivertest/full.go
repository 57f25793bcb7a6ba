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
	crew := e.crew(c)
	crew.Each, crew.s.Window = time.Millisecond, 8 // what is in hand need not count
	const keys = 100
	batch := keys * e.batch(5)
	n := max(e.h.Many/4, 4*batch)
	var wg sync.WaitGroup
	for _, prefix := range []string{"a", "b"} {
		sender := full()
		wg.Go(func() {
			for i := 0; i < n; i += batch {
				if err := crew.Send(context.Background(), sender, Numbered(crew.s.Channel.Name, prefix, i, min(n, i+batch), keys)); err != nil {
					e.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	// Whoever makes room begins when there is none.
	crew.until("a send that is refused", func() bool { return crew.failed > 0 })
	for i := range e.several() {
		crew.Join(full(), fmt.Sprint(i))
	}
	wg.Wait()
	crew.Check()
}
