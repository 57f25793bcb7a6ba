package drivertest

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

var settleAgainTests = map[string]test{
	"Settle_again_after_a_cut_names_what_may_come_again": {run: testSettleAgain, gap: needsThrough},
}

// testSettleAgain has settlements lost with their link. A Settle that is tried
// again may return nil only where the engine has them: who is told so forgets what
// became of the messages, and handles one that comes again a second time.
func testSettleAgain(e *env) {
	p, far := e.through()
	c, near := far(), e.conn()
	ch, s := e.queue(near)
	const n = 4
	e.send(near, e.messages(ch, n, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, n)
	ss := make([]driver.Settlement, n)
	for i, d := range ds {
		ss[i].Delivery = d
	}
	p.Stall()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	err := r.Settle(ctx, ss)
	cancel()
	if err == nil {
		p.Heal()
		e.gap("Settle does not wait for the engine")
		return
	}
	p.Cut()
	p.Heal()
	ctx, cancel = e.within()
	defer cancel()
	for e.classify(r, err) == driver.Retryable && backoff.Sleep(ctx, 20*time.Millisecond) {
		err = r.Settle(ctx, ss)
	}
	named := map[string]bool{}
	if stale := (*driver.StaleError)(nil); errors.As(err, &stale) {
		for _, i := range stale.Indexes {
			named[ds[i].Message.ID] = true
		}
	} else if err != nil {
		e.Fatalf("settle again, over the next link: %v", err)
	}
	next := e.message(ch, ds[0].Message.Key, n)
	e.send(near, next)
	for {
		d := e.one(r)
		if d.Message.ID == next.ID {
			e.settle(r, driver.Ack, d)
			return
		}
		if !named[d.Message.ID] {
			e.Errorf("%s comes again, and the second Settle did not name it", d.Message.ID)
		}
		e.settle(r, driver.Ack, d)
	}
}
