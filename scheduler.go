package dovetail

import (
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A scheduler decides which message is handled next. Messages of one key form a
// lane: the first of it is ready, running or held, and the others wait behind
// it, in order. Messages without a key are ready at once. Work is scheduled by
// key, not by a hash of it, so a held key holds no neighbour.
//
// What is in hand is bounded: at most window messages that can move, at most
// held more that wait in held lanes or to be settled, and at most maxBytes in
// all. A broker that is slow to take settlements thus does not idle the workers.
type scheduler struct {
	window, held, maxBytes int

	mu           sync.Mutex
	ready        itemQueue
	gate         gate
	pool         pool
	lanes        map[string]*lane
	free         *lane // lanes to be used again
	all          itemList
	count        int // in hand
	blocked      int // those of count that wait in held lanes
	settling     int // those of count that are handled and not settled yet
	bytes        int
	aside        int            // set aside: neither in hand nor settled
	asides       int            // bytes of what is set aside
	cuts         map[*lane]bool // whose later messages are set aside
	sizeEstimate int            // bytes of a large message, as they have come lately
	done         []*item        // to be settled
	draining     bool           // hand back rather than hold
	told         func(gateNews)
	recall       *recall // remembers what the engine redelivers; may be nil
	keys         keyLocks

	room   chan struct{} // something was settled, or a lane is no longer held
	finish chan struct{} // done is not empty
}

func newScheduler(window, held, maxBytes int) *scheduler {
	s := &scheduler{
		window: window, held: held, maxBytes: maxBytes,
		lanes:  make(map[string]*lane),
		room:   make(chan struct{}, 1),
		finish: make(chan struct{}, 1),
	}
	s.gate.s = s
	s.pool.more.L = &s.mu
	return s
}

// capacity is how many more messages may be taken in.
func (s *scheduler) capacity() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count > 0 && s.bytes >= s.maxBytes || s.asideFull() {
		return 0
	}
	n := min(s.window-(s.count-s.blocked-s.settling), s.window+s.held-s.count)
	if s.sizeEstimate > 0 {
		n = min(n, max(1, (s.maxBytes-s.bytes)/s.sizeEstimate))
	}
	return max(0, n)
}

// push takes in messages, in order. It returns those that it set aside.
func (s *scheduler) push(items []*item) (aside []*driver.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(items, (*item).again) {
		items = s.refresh(items)
	}
	for _, t := range items {
		if s.draining {
			t.state = itemDropped
			continue
		}
		if s.setAside(t) {
			aside = append(aside, t.delivery)
			continue
		}
		s.all.add(t)
		s.count++
		s.bytes += t.size
		s.sizeEstimate = max(t.size, s.sizeEstimate-s.sizeEstimate/64)
		key := t.in.Message.Key
		if key == "" {
			s.makeReady(t)
		} else {
			s.enqueue(t, key)
		}
	}
	s.wake()
	return aside
}

// enqueue adds t to the lane of its key.
func (s *scheduler) enqueue(t *item, key string) {
	l := s.lanes[key]
	if l == nil {
		l = s.newLane(key)
		s.lanes[key] = l
	}
	l.add(t)
	if l.head == t {
		s.makeReady(t)
	} else if l.held {
		s.blocked++
	}
}

func (s *scheduler) makeReady(t *item) {
	t.state = itemReady
	s.ready.push(t)
}

// wake has a worker look if there is something for it: one that waits, or a new
// one. That one wakes the next, so that short handlers are run by few workers,
// which need not wait for each other.
func (s *scheduler) wake() {
	if s.ready.head != nil {
		s.pool.wake()
	}
}

// exchange gives back items whose attempt is over, each with its result, and
// waits for more to do: one item, or several for one batch handler. It returns
// none when the worker is to end. The slice is used again.
func (s *scheduler) exchange(items []*item) []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range items {
		s.complete(t)
	}
	s.tellNews()
	clear(items)
	for items = items[:0]; len(items) == 0; {
		if s.pool.closing || s.ready.head == nil && s.pool.wait() && s.ready.head == nil {
			s.pool.left()
			return nil
		}
		items = s.begin(items)
	}
	s.wake()
	return items
}

// begin appends what is handled next, none where what was ready waits at the
// gate.
func (s *scheduler) begin(items []*item) []*item {
	for s.ready.head != nil {
		t := s.ready.head
		if len(items) > 0 && (t.sub != items[0].sub || t.alone || s.gate.stops(t)) {
			break
		}
		s.ready.remove(t)
		if s.gate.stops(t) {
			s.endClaim(t)
			s.gate.wait(t)
			s.grant(t.in.Message.Key)
			continue
		}
		if s.locked(t) {
			continue
		}
		t.state = itemRunning
		items = append(items, t)
		if t.sub == nil || t.sub.batch == nil || t.alone || s.gate.probe == t || len(items) == t.sub.batchSize {
			break
		}
	}
	return items
}

// giveBack is exchange for a worker that does not go on.
func (s *scheduler) giveBack(items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range items {
		s.complete(t)
	}
	s.tellNews()
	s.wake()
}

// complete takes back an item after an attempt.
func (s *scheduler) complete(t *item) {
	t.renew()
	s.endClaim(t)
	t.ticks = 0
	switch {
	case t.result == resultNotBegun:
	case t.unseen: // it says nothing of whether handlers can begin
		s.gate.forget(t)
	default:
		s.gate.passed(t)
	}
	if t.result == resultRetry {
		t.due = time.Now().Add(t.after)
	}
	leaves := t.abandoned || s.draining || t.lost // what is to be tried again is handed back
	switch {
	case t.abandoned:
		s.gate.forget(t)
		s.quit(t)
	case t.result != resultRetry && t.result != resultNotBegun:
		s.conclude(t)
	case leaves:
		s.gate.forget(t)
		s.quit(t)
	case t.result == resultNotBegun && s.gate.close(t):
		s.gate.wait(t)
	case t.after <= 0:
		s.makeReady(t)
	default:
		s.hold(t)
		t.state = itemHeld
		t.timer = time.AfterFunc(t.after, func() { s.release(t) })
		s.signalRoom()
	}
	s.grant(t.in.Message.Key)
}

// conclude has t settled, and lets its key go on.
func (s *scheduler) conclude(t *item) {
	t.state = itemDone
	s.settling++
	s.done = append(s.done, t)
	s.leaveLane(t)
	select {
	case s.finish <- struct{}{}:
	default:
	}
}

// leaveLane takes t out of its lane; if t was the first, the next one goes on.
func (s *scheduler) leaveLane(t *item) {
	l := t.lane
	if l == nil {
		return
	}
	first := l.head == t
	l.remove(t)
	switch {
	case l.head == nil && l.cut != nil:
		l.cut.from.reread()
	case l.head == nil:
		s.endLane(l)
	case first:
		l.failed = false
		s.makeReady(l.head)
	}
}

func (s *scheduler) endLane(l *lane) {
	delete(s.lanes, l.key)
	*l = lane{next: s.free}
	s.free = l
}

func (s *scheduler) newLane(key string) *lane {
	l := s.free
	if l == nil {
		return &lane{key: key}
	}
	s.free = l.next
	*l = lane{key: key}
	return l
}

// quit takes t out of hand, unsettled.
func (s *scheduler) quit(t *item) {
	t.state = itemDropped
	s.endClaim(t)
	s.recall.handedBack(t)
	s.leaveLane(t)
	s.forget(t)
	s.signalRoom()
}

// hold has t's key wait with it.
func (s *scheduler) hold(t *item) {
	if t.since.IsZero() {
		t.since = time.Now()
	}
	if t.lane != nil {
		t.lane.held, t.lane.failed = true, true
		s.blocked += t.lane.n
	} else {
		s.blocked++
	}
}

func (s *scheduler) unhold(t *item) {
	if t.lane != nil {
		t.lane.held = false
		s.blocked -= t.lane.n
	} else {
		s.blocked--
	}
}

// release lets a held item be tried again.
func (s *scheduler) release(t *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.state != itemHeld {
		return
	}
	s.unhold(t)
	s.makeReady(t)
	s.wake()
}

// takeDone returns the items to be settled. The slice given is used for the
// next ones.
func (s *scheduler) takeDone(spare []*item) []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.done
	s.done = spare[:0]
	return batch
}

// settled forgets items that are out of hand.
func (s *scheduler) settled(items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range items {
		if t.lost { // and waits for this, perhaps
			s.recall.unsettled(t)
		}
		s.forget(t)
	}
	s.settling -= len(items)
	s.signalRoom()
}

func (s *scheduler) forget(t *item) {
	s.all.remove(t)
	s.count--
	s.bytes -= t.size
	if t.exit != nil {
		t.exit.out()
		t.exit = nil
	}
}

func (s *scheduler) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// inHand is how many messages are received and neither settled nor handed back.
func (s *scheduler) inHand() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *scheduler) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// close ends all workers once they have finished what they are at.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.closing = true
	s.pool.more.Broadcast()
}

// each calls f for every item in hand of a source. f must not block.
func (s *scheduler) each(from *source, f func(*item)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := s.all.head; t != nil; t = t.nextAll {
		if t.from == from {
			f(t)
		}
	}
}
