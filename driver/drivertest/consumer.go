package drivertest

import (
	"context"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// consume starts a consumer on r, which handles what it gets by noting it and
// acknowledges each batch. stop ends it and waits until it has.
func (e *env) consume(l *recorder, r driver.Receiver, group string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ds, err := r.Receive(ctx, 64)
			if err != nil {
				if ctx.Err() != nil || e.classify(r, err) == driver.Closed {
					return
				}
				if e.classify(r, err) != driver.Retryable {
					e.Errorf("consumer of %s: receive: %v", group, err)
					return
				}
				continue
			}
			l.note("", group, ds...)
			ss := make([]driver.Settlement, len(ds))
			for i, d := range ds {
				ss[i] = driver.Settlement{Delivery: d, Outcome: driver.Ack}
			}
			// Not under ctx: what was handled is acknowledged even when the
			// consumer is being stopped.
			sctx, scancel := e.within()
			if err := r.Settle(sctx, ss); err != nil && !e.tolerable(r, err) {
				e.Errorf("consumer of %s: settle: %v", group, err)
			}
			scancel()
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	e.Cleanup(stop)
	return stop
}

// tolerable errors are those of a link that is away or was closed, and of what
// was handed over meanwhile.
func (e *env) tolerable(r driver.Receiver, err error) bool {
	k := e.classify(r, err)
	return k == driver.Retryable || k == driver.Closed || isStale(err)
}

// awaitUnique waits until n different messages were handled.
func (e *env) awaitUnique(l *recorder, n int) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	for {
		have, changed := l.unique()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			e.Fatalf("waited %v for %d messages, %d came", e.h.Patience, n, have)
		}
	}
}

// inOrder checks that the first copies of each key came in order.
func (e *env) inOrder(l *recorder) {
	e.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.invert) > 0 {
		e.Fatalf("%d messages out of order, the first: %s", len(l.invert), l.invert[0])
	}
}

// noCopies checks that no message was handled twice, as far as the transport
// can avoid it: copies must be marked by their attempt where it counts.
func (e *env) noCopies(l *recorder, rebalanced bool) {
	e.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.dupes > 0 && !rebalanced:
		e.Fatalf("%d messages were handled twice", l.dupes)
	case l.unmark > 0 && e.caps.CountsAttempts:
		e.Fatalf("%d messages were handled twice with Attempt 1 both times", l.unmark)
	}
}
