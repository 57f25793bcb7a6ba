package drivertest

import (
	"context"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var handoverTests = map[string]test{
	"Handover_moves_what_has_nothing_in_hand_at_once": {run: testHandoverSlow, gap: needsOrder(driver.OrderOwner)},
	"Handover_moves_each_partition_by_itself":         {run: testHandoverSingle, gap: needsOrder(driver.OrderOwner)},
	"Handover_gives_what_was_abandoned_to_the_next":   {run: testHandoverAbandoned, gap: needsOrder(driver.OrderOwner)},
	"Handover_begins_after_what_was_settled":          {run: testHandoverSettled, gap: needsOrder(driver.OrderOwner)},
}

// owned is an owner of four partitions with a delivery of each in hand.
type owned struct {
	ch    driver.Channel
	s     driver.Subscription
	keys  []string // one in each partition
	c     driver.Conn
	r     driver.Receiver
	hands map[int]*driver.Delivery // by partition
	next  map[string]int           // by key: the number that is sent next
}

// ownsAll opens a receiver without releasing anything that it loses.
func (e *env) ownsAll(sender driver.Conn) *owned {
	e.Helper()
	ch, s := e.partitioned(sender)
	o := &owned{ch: ch, s: s, c: e.conn(), hands: map[int]*driver.Delivery{}, next: map[string]int{}}
	ctx, cancel := e.within()
	defer cancel()
	r, err := o.c.OpenReceiver(ctx, s)
	if err != nil {
		e.Fatalf("open receiver: %v", err)
	}
	e.Cleanup(func() {
		ctx, cancel := e.within()
		defer cancel()
		if err := r.Close(ctx); err != nil && o.c.Classify(err) != driver.Closed {
			e.Errorf("close receiver: %v", err)
		}
	})
	e.from.Store(r, o.c)
	o.r = r
	for _, m := range Numbered(ch.Name, "key-", 0, sameKeys, sameKeys) {
		e.send(sender, m)
		d := e.one(r)
		if o.hands[d.Partition] == nil {
			o.hands[d.Partition] = d
			o.keys = append(o.keys, m.Key)
			o.next[m.Key] = 1
			if len(o.keys) == 4 {
				return o
			}
			continue
		}
		e.settle(r, driver.Ack, d)
	}
	e.Fatalf("%d keys are in %d partitions, want 4", sameKeys, len(o.keys))
	return nil
}

func (e *env) sendNext(c driver.Conn, o *owned) {
	e.Helper()
	for _, key := range o.keys {
		e.send(c, e.message(o.ch, key, o.next[key]))
		o.next[key]++
	}
}

// releaseIdle releases, one by one and the last first, the lost partitions of
// which nothing is in hand, until stop is called, and then the others.
func (e *env) releaseIdle(o *owned, idle func(partition int) bool) (stop func()) {
	rv, ok := o.r.(driver.Revoker)
	if !ok {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	release := func(parts ...int) {
		for _, p := range slices.Backward(parts) {
			ctx, cancel := e.within()
			if err := rv.Release(ctx, []int{p}); err != nil && o.c.Classify(err) != driver.Closed && o.c.Classify(err) != driver.Retryable {
				e.Errorf("release %d: %v", p, err)
			}
			cancel()
		}
	}
	go func() {
		defer close(done)
		var kept []int
		for {
			select {
			case parts, ok := <-rv.Revoked():
				if !ok {
					return
				}
				var free []int
				for _, p := range parts {
					if idle(p) {
						free = append(free, p)
					} else {
						kept = append(kept, p)
					}
				}
				release(free...)
			case <-quit:
				release(kept...)
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// testHandoverSlow has a second receiver join while one delivery of the first is
// slow.
func testHandoverSlow(e *env) {
	sender := e.conn()
	o := e.ownsAll(sender)
	slow := o.hands[partitionsIn(o.hands)[0]]
	for _, d := range o.hands {
		if d != slow {
			e.settle(o.r, driver.Ack, d)
		}
	}
	stop := e.releaseIdle(o, func(p int) bool { return p != slow.Partition })
	second := e.receiver(e.conn(), e.another(o.s))
	began := time.Now()
	for moved := false; !moved; {
		if time.Since(began) > e.h.Patience/2 {
			e.Fatalf("nothing was handed over within %v while one delivery of another partition was slow", e.h.Patience/2)
		}
		e.sendNext(sender, o)
		for _, r := range []driver.Receiver{second, o.r} {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			ds, err := r.Receive(ctx, 10)
			cancel()
			if err != nil && ctx.Err() == nil && e.classify(r, err) != driver.Retryable {
				e.Fatalf("receive: %v", err)
			}
			for _, d := range ds {
				if r == second && d.Partition == slow.Partition {
					e.Fatalf("the newcomer got %s of partition %d, of which its owner has %s in hand", d.Message.ID, d.Partition, slow.Message.ID)
				}
				moved = moved || r == second
				if d.Partition != slow.Partition { // its successors stay in hand behind it
					e.settle(r, driver.Ack, d)
				}
			}
		}
	}
	if took := time.Since(began); took > soon {
		e.Errorf("the first partition was handed over after %v while one delivery of another was slow, want %v", took, soon)
	}
	e.settle(o.r, driver.Ack, slow)
	stop()
}

// testHandoverSingle has something in hand of every partition when another
// receiver joins, and gives up one partition of those that it loses.
func testHandoverSingle(e *env) {
	sender := e.conn()
	o := e.ownsAll(sender)
	rv, ok := o.r.(driver.Revoker)
	if !ok {
		e.gap("driver.Revoker is not implemented")
		return
	}
	released, rest, done := make(chan int, 1), make(chan struct{}), make(chan struct{})
	release := func(p int) {
		ctx, cancel := e.within()
		defer cancel()
		if err := rv.Release(ctx, []int{p}); err != nil && !passing(o.c.Classify(err)) {
			e.Errorf("release %d: %v", p, err)
		}
	}
	go func() {
		defer close(done)
		var kept []int
		for first := true; ; {
			select {
			case parts, ok := <-rv.Revoked():
				if !ok {
					return
				}
				if first && len(parts) > 0 {
					first = false
					last := parts[len(parts)-1]
					parts = parts[:len(parts)-1]
					release(last)
					released <- last
				}
				kept = append(kept, parts...)
			case <-rest:
				for _, p := range slices.Backward(kept) {
					release(p)
				}
				return
			}
		}
	}()
	second := e.receiver(e.conn(), e.another(o.s))
	p := await(e, released, "a partition to be lost to a second receiver")
	d := e.soonHas(second, 1, "one partition was released, and others of those that are lost are still in use")[0]
	if d.Partition != p || number(d.Message) != 0 {
		e.Errorf("the second receiver got %s of partition %d, want what was in hand of partition %d", d.Message.ID, d.Partition, p)
	}
	e.settle(second, driver.Ack, d)
	e.nothing(second, "nothing else was released")
	close(rest)
	<-done
}

// testHandoverAbandoned releases a partition with a delivery in hand: the next
// owner gets it, and first.
func testHandoverAbandoned(e *env) {
	sender := e.conn()
	o := e.ownsAll(sender)
	e.sendNext(sender, o)
	if _, ok := o.r.(driver.Revoker); !ok {
		e.closeReceiver(o.r) // the way to abandon them
	}
	stop := e.releaseIdle(o, func(int) bool { return true })
	defer stop()
	second := e.receiver(e.conn(), e.another(o.s))
	first := map[int]bool{} // partitions of which the next owner has the first message
	take := func() {
		d := e.one(second)
		if p := d.Partition; number(d.Message) == 0 {
			first[p] = true
		} else if !first[p] {
			e.Fatalf("the next owner got %s before %s, which was in hand when partition %d was released", d.Message.ID, o.hands[p].Message.ID, p)
		}
		e.settle(second, driver.Ack, d)
	}
	for len(first) < 2 { // its share; each has a second message, which may come before the other's first
		take()
	}
	if _, ok := o.r.(driver.Revoker); !ok {
		return // it is closed
	}
	late := make([]driver.Settlement, 0, 4)
	for _, d := range o.hands {
		late = append(late, driver.Settlement{Delivery: d})
	}
	indexes, _ := e.stale(o.r, late...)
	for _, i := range indexes {
		for p := late[i].Delivery.Partition; !first[p]; { // it fails unless the partition was handed over
			take()
		}
	}
}

// testHandoverSettled closes the owner after it settled the first of each
// partition: nothing of that comes again.
func testHandoverSettled(e *env) {
	sender := e.conn()
	o := e.ownsAll(sender)
	for _, d := range o.hands {
		e.settle(o.r, driver.Ack, d)
	}
	e.sendNext(sender, o)
	e.closeReceiver(o.r)
	second := e.receiver(e.conn(), e.another(o.s))
	for range o.keys {
		d := e.one(second)
		if number(d.Message) != 1 {
			e.Fatalf("the next owner got %s, which was settled", d.Message.ID)
		}
		e.settle(second, driver.Ack, d)
	}
	e.nothing(second, "the others were settled")
}

func partitionsIn(hands map[int]*driver.Delivery) (ps []int) {
	for p := range hands {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}
