package drivertest_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// leases is how a lab that leases deliveries does it.
type leases struct {
	end     driver.Outcome // what becomes of a delivery whose lease runs out
	endless bool           // none does
	passive bool           // Extend does nothing
	narrow  bool           // Extend does nothing for what was set aside
}

// A leaser is a receiver whose deliveries come again when their lease runs out.
type leaser struct {
	*linkReceiver
	how   leases
	lease time.Duration

	mu     sync.Mutex
	timers map[*driver.Delivery]*time.Timer
	aside  []*driver.Delivery
}

func (r *leaser) Receive(ctx context.Context, n int) ([]*driver.Delivery, error) {
	ds, err := r.linkReceiver.Receive(ctx, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range ds {
		if !r.how.endless {
			r.timers[d] = time.AfterFunc(r.lease, func() { r.runOut(d) })
		}
	}
	return ds, err
}

func (r *leaser) runOut(d *driver.Delivery) {
	r.mu.Lock()
	_, mine := r.timers[d]
	delete(r.timers, d)
	r.mu.Unlock()
	if mine {
		_ = r.linkReceiver.Settle(context.Background(), []driver.Settlement{{Delivery: d, Outcome: r.how.end}})
	}
}

func (r *leaser) Settle(ctx context.Context, ss []driver.Settlement) error {
	r.mu.Lock()
	for _, s := range ss {
		if t := r.timers[s.Delivery]; t != nil {
			t.Stop()
			delete(r.timers, s.Delivery)
		}
	}
	r.mu.Unlock()
	return r.linkReceiver.Settle(ctx, ss)
}

// Extend implements driver.Extender.
func (r *leaser) Extend(_ context.Context, ds []*driver.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range slices.Concat(ds, r.aside) {
		if t := r.timers[d]; t != nil && !r.how.passive {
			t.Reset(r.lease)
		}
	}
	return nil
}

// Widen implements driver.Widener.
func (r *leaser) Widen(aside []*driver.Delivery) {
	r.mu.Lock()
	if !r.how.narrow {
		r.aside = append(r.aside, aside...)
	}
	r.mu.Unlock()
	r.linkReceiver.Widen(aside)
}

func (r *leaser) Close(ctx context.Context) error {
	r.mu.Lock()
	for _, t := range r.timers {
		t.Stop()
	}
	clear(r.timers)
	r.mu.Unlock()
	return r.linkReceiver.Close(ctx)
}

const leaseTime = 300 * time.Millisecond

func leasing(how leases) mutant {
	return mutant{leases: &how, caps: func(c *driver.Capabilities) { c.Lease = time.Minute }}
}

var leaseMutants = map[string]mutant{
	"lets no lease run out":                     leasing(leases{endless: true}).caughtBy("Lease_that_ran_out_brings_the_message_again"),
	"extends nothing":                           leasing(leases{end: driver.Retry, passive: true}).caughtBy("Lease_that_is_extended_holds"),
	"loses a message whose lease has run out":   leasing(leases{end: driver.Ack}).caughtBy("Lease_that_ran_out_brings_the_message_again"),
	"rejects a message whose lease has run out": leasing(leases{end: driver.Reject}).caughtBy("Lease_that_ran_out_brings_the_message_again"),
}
