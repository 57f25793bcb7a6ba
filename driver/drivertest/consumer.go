package drivertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A ledger is what a set of consumers handled, in the order in which they did.
type ledger struct {
	mu      sync.Mutex
	count   map[string]int          // by channel, group and id
	last    map[string]int          // by channel, group and key: highest number whose first copy came
	by      map[driver.Receiver]int // how many each handled
	invert  []string                // first copies that came out of order
	dupes   int                     // copies after the first
	unmark  int                     // copies after the first that were not marked as such
	changed chan struct{}           // closed and replaced with every change
}

func newLedger() *ledger {
	return &ledger{count: map[string]int{}, last: map[string]int{}, by: map[driver.Receiver]int{}, changed: make(chan struct{})}
}

func (l *ledger) note(r driver.Receiver, group string, ds []*driver.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		m := d.Message
		l.by[r]++
		id := m.Channel + "|" + group + "|" + m.ID
		l.count[id]++
		if l.count[id] > 1 {
			l.dupes++
			if d.Attempt == 1 {
				l.unmark++
			}
			continue
		}
		if m.Key == "" {
			continue
		}
		key := m.Channel + "|" + group + "|" + m.Key
		last, seen := l.last[key]
		if n := number(m); !seen && n != 0 || seen && n != last+1 {
			l.invert = append(l.invert, fmt.Sprintf("%s: %d after %d", key, n, last))
		}
		l.last[key] = number(m)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// unique returns how many messages were handled, copies left out, and what to
// wait on for it to change.
func (l *ledger) unique() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.count), l.changed
}

// consume starts a consumer on r, which handles what it gets by noting it and
// acknowledges each batch. stop ends it and waits until it has.
func (e *env) consume(l *ledger, r driver.Receiver, group string) (stop func()) {
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
			l.note(r, group, ds)
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

// tolerable errors are those of a link that is away or was closed.
func (e *env) tolerable(r driver.Receiver, err error) bool {
	k := e.classify(r, err)
	return k == driver.Retryable || k == driver.Closed
}

// awaitUnique waits until n different messages were handled.
func (e *env) awaitUnique(l *ledger, n int) {
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
func (e *env) inOrder(l *ledger) {
	e.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.invert) > 0 {
		e.Fatalf("%d messages out of order, the first: %s", len(l.invert), l.invert[0])
	}
}

// noCopies checks that no message was handled twice, as far as the transport
// can avoid it: copies must be marked by their attempt where it counts.
func (e *env) noCopies(l *ledger, rebalanced bool) {
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
