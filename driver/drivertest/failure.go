package drivertest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var failureTests = map[string]test{
	"Restart_in_mid_stream_loses_nothing_confirmed": {run: testRestart, gap: needsRestart},
	"Restart_keeps_the_order_within_a_batch":        {run: testRestartBatch, gap: needsRestartAndOrderedBatch},
	"Restart_keeps_what_was_unsettled":              {run: testRestartUnsettled, gap: needsRestart},
	"Restart_keeps_what_waits_for_every_group":      {run: testRestartGroups, gap: needsRestart},
	"Restart_keeps_what_is_not_due":                 {run: testRestartDelay, gap: needsRestartAndDelay},
	"Incarnation_is_the_same_over_all_connections":  {run: testIncarnation},
}

func needsRestart(c driver.Capabilities, h Harness) string {
	switch {
	case !c.Durable:
		return "Durable is not declared"
	case h.Restart == nil:
		return "the harness has no Restart"
	}
	return ""
}

func (e *env) restart() {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := e.h.Restart(ctx); err != nil {
		e.Fatalf("restart: %v", err)
	}
}

// sendUntilConfirmed sends messages again, under the same ids, until each is
// confirmed, as the core does.
func (e *env) sendUntilConfirmed(c driver.Conn, ms []*driver.Message) error {
	ctx, cancel := e.within()
	defer cancel()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for len(ms) > 0 {
		err := c.Send(ctx, ms)
		if err == nil {
			return nil
		}
		var se *driver.SendError
		if errors.As(err, &se) {
			// Order by key: everything from the first failure on goes again.
			ms = ms[se.Failures[0].Index:]
		}
		if k := c.Classify(err); se == nil && k != driver.Retryable && k != driver.Unclassified {
			return fmt.Errorf("send during a restart is %q, want it retryable: %w", k, err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("the link did not come back within %v: %w", e.h.Patience, err)
		}
	}
	return nil
}

func testRestart(e *env) {
	sender, consumer := e.conn(), e.conn()
	ch, s := e.queue(sender)
	const n, keys, batch = 600, 5, 10
	l := newLedger()
	e.consume(l, e.receiver(consumer, s), s.Group)
	ms := e.messages(ch, n, keys)
	third := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < n; i += batch {
			if i == n/3 {
				close(third)
			}
			if err := e.sendUntilConfirmed(sender, ms[i:i+batch]); err != nil {
				e.Errorf("batch at %d: %v", i, err)
				return
			}
		}
	})
	await(e, third, "a third of the messages to be sent")
	e.restart()
	wg.Wait()
	if e.Failed() {
		return
	}
	e.awaitUnique(l, n)
	if e.caps.Order >= driver.OrderInstance {
		e.inOrder(l)
	}
}

func needsRestartAndOrderedBatch(c driver.Capabilities, h Harness) string {
	if !c.OrderedBatch {
		return "OrderedBatch is not declared"
	}
	return needsRestart(c, h)
}

// testRestartBatch sends again only what a batch is said not to have stored: had
// something of a key been stored behind it, it would come out of order.
func testRestartBatch(e *env) {
	sender, consumer := e.conn(), e.conn()
	ch, s := e.queue(sender)
	const n, keys, batch = 2000, 3, 100
	l := newLedger()
	e.consume(l, e.receiver(consumer, s), s.Group)
	ms := e.messages(ch, n, keys)
	third := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		pause := time.NewTicker(20 * time.Millisecond)
		defer pause.Stop()
		ctx, cancel := e.within()
		defer cancel()
		for i := 0; i < n; i += batch {
			if i == n/batch/3*batch {
				close(third)
			}
			for left := ms[i : i+batch]; len(left) > 0; {
				err := sender.Send(ctx, left)
				var se *driver.SendError
				switch {
				case err == nil:
					left = nil
					continue
				case errors.As(err, &se):
					var failed []*driver.Message
					for _, f := range se.Failures {
						failed = append(failed, left[f.Index])
					}
					left = failed
				}
				select {
				case <-pause.C:
				case <-ctx.Done():
					e.Errorf("the link did not come back within %v: %v", e.h.Patience, err)
					return
				}
			}
		}
	})
	await(e, third, "a third of the messages to be sent")
	e.restart()
	wg.Wait()
	if e.Failed() {
		return
	}
	e.awaitUnique(l, n)
	if e.caps.Order >= driver.OrderInstance {
		e.inOrder(l)
	}
}

func testRestartUnsettled(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 10
	e.send(c, e.messages(ch, n, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, n/2)
	e.settle(r, driver.Ack, ds[:2]...)
	e.restart()
	l := newLedger()
	e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	e.consume(l, r, s.Group)
	e.eventually("what was unsettled at the restart to be handled", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := 2; i < n; i++ {
			if l.count[fmt.Sprintf("%s|%s|k0/%d", ch.Name, s.Group, i)] == 0 {
				return false
			}
		}
		return true
	})
}

func needsRestartAndDelay(c driver.Capabilities, h Harness) string {
	if why := needsDelay(c, h); why != "" {
		return why
	}
	return needsRestart(c, h)
}

func testRestartGroups(e *env) {
	c := e.conn()
	ch, subs := e.topic(c, "billing", "mail")
	if !e.caps.PublishRetained {
		e.gap("PublishRetained is not declared: point-to-point alone is tried")
		var s driver.Subscription
		ch, s = e.queue(c)
		subs = []driver.Subscription{s}
	}
	const n = 30
	e.send(c, e.messages(ch, n, 3)...)
	e.restart()
	l := newLedger()
	for _, s := range subs { // neither channel nor group is provisioned again
		e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	}
	e.awaitUnique(l, n*len(subs))
	if e.caps.Order >= driver.OrderInstance {
		e.inOrder(l)
	}
}

func testRestartDelay(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Due = time.Now().Add(2 * e.due())
	e.send(c, m)
	e.restart()
	r := e.receiver(e.conn(), e.another(s))
	d := e.one(r)
	e.notBefore(d, m.Due)
	e.settle(r, driver.Ack, d)
}

func testIncarnation(e *env) {
	c := e.conn()
	v, ok := c.(driver.Volatile)
	if !ok {
		e.gap("driver.Volatile is not implemented")
		return
	}
	ctx, cancel := e.within()
	defer cancel()
	id, window, err := v.Incarnation(ctx)
	if err != nil || id == "" || window < 0 {
		e.Fatalf("Incarnation is %q with a window of %v, %v; want an id and no negative window", id, window, err)
	}
	other, _, err := e.conn().(driver.Volatile).Incarnation(ctx)
	if err != nil || other != id {
		e.Fatalf("Incarnation is %q over another connection, %v; want %q", other, err, id)
	}
}
