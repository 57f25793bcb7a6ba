package drivertest

import (
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

var failureTests = map[string]test{
	"Restart_in_mid_stream_loses_nothing_confirmed": {run: func(e *env) { e.killed(600, 5, 1) }, gap: needsRestart},
	"Restart_keeps_the_order_within_a_batch":        {run: func(e *env) { e.killed(2000, 4, 25) }, gap: needsRestartAndOrderedBatch},
	"Restart_keeps_what_was_unsettled":              {run: testRestartUnsettled, gap: needsRestart},
	"Restart_keeps_what_waits_for_every_group":      {run: testRestartGroups, gap: needsRestart},
	"Restart_keeps_what_is_not_due":                 {run: testRestartDelay, gap: needsRestartAndDelay},
	"Incarnation_is_the_same_over_all_connections":  {run: testIncarnation},
	"Incarnation_is_not_denied_over_a_lost_link":    {run: testIncarnationCut, gap: needsThrough},
}

func needsRestart(c driver.Capabilities, h Harness) string {
	switch {
	case !c.Durable:
		return "Durable is not declared"
	case h.Restart == nil:
		return noHook + "Restart"
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

func needsRestartAndOrderedBatch(c driver.Capabilities, h Harness) string {
	if !c.OrderedBatch {
		return "OrderedBatch is not declared"
	}
	return needsRestart(c, h)
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
	l := newRecorder()
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
	l := newRecorder()
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
	v, ok := c.(driver.Incarnated)
	if !ok {
		e.gap("driver.Incarnated is not implemented")
		return
	}
	ctx, cancel := e.within()
	defer cancel()
	id, window, err := v.Incarnation(ctx)
	if err != nil || id == "" || window < 0 {
		e.Fatalf("Incarnation is %q with a window of %v, %v; want an id and no negative window", id, window, err)
	}
	other, _, err := e.conn().(driver.Incarnated).Incarnation(ctx)
	if err != nil || other != id {
		e.Fatalf("Incarnation is %q over another connection, %v; want %q", other, err, id)
	}
}

// testIncarnationCut asks over a link that was cut. A relay deletes what it published
// once an engine has said that it cannot tell how much it may forget: so an engine that
// is only not reached must not say that.
func testIncarnationCut(e *env) {
	p, open := e.through()
	v, ok := open().(driver.Incarnated)
	if !ok {
		e.gap("driver.Incarnated is not implemented")
		return
	}
	ctx, cancel := e.within()
	defer cancel()
	id, _, err := v.Incarnation(ctx)
	if err != nil {
		e.Fatalf("Incarnation: %v", err)
	}
	p.Cut()
	for end := time.Now().Add(2 * e.h.Quiet); time.Now().Before(end); backoff.Sleep(ctx, e.h.Quiet/20) {
		now, _, err := v.Incarnation(ctx)
		if err == nil && now != id || err != nil && driver.Classify(err) != driver.Retryable {
			e.Fatalf("Incarnation over a link that was cut is %q, %v; want %q, or a retryable error", now, err, id)
		}
	}
}
