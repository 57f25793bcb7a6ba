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

	mu       sync.Mutex
	ready    taskQueue
	gate     gate
	pool     pool
	lanes    map[string]*lane
	free     *lane // lanes to be used again
	all      taskList
	count    int // in hand
	stuck    int // of them in held lanes
	settling int // of them handled, and not settled yet
	bytes    int
	aside    int            // set aside: neither in hand nor settled
	asides   int            // bytes of these
	cuts     map[*lane]bool // whose later messages are set aside
	big      int            // bytes of a large message, as they have come lately
	done     []*task        // to be settled
	draining bool           // hand back rather than hold
	told     func(gateNews)
	recall   *recall // hears of what is delivered again; may be nil
	keys     keyLocks

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
	if s.count > 0 && s.bytes >= s.maxBytes || s.full() {
		return 0
	}
	n := min(s.window-(s.count-s.stuck-s.settling), s.window+s.held-s.count)
	if s.big > 0 {
		n = min(n, max(1, (s.maxBytes-s.bytes)/s.big))
	}
	return max(0, n)
}

// push takes in messages, in order. It returns those that it set aside.
func (s *scheduler) push(tasks []*task) (aside []*driver.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(tasks, (*task).again) {
		tasks = s.refresh(tasks)
	}
	for _, t := range tasks {
		if s.draining {
			t.state = taskDropped
			continue
		}
		if s.setAside(t) {
			aside = append(aside, t.delivery)
			continue
		}
		s.all.add(t)
		s.count++
		s.bytes += t.size
		s.big = max(t.size, s.big-s.big/64)
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
func (s *scheduler) enqueue(t *task, key string) {
	l := s.lanes[key]
	if l == nil {
		l = s.newLane(key)
		s.lanes[key] = l
	}
	l.add(t)
	if l.head == t {
		s.makeReady(t)
	} else if l.held {
		s.stuck++
	}
}

func (s *scheduler) makeReady(t *task) {
	t.state = taskReady
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

// exchange gives back tasks whose attempt is over, each with its verdict, and
// waits for more to do: one task, or several for one batch handler. It returns
// none when the worker is to end. The slice is used again.
func (s *scheduler) exchange(tasks []*task) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.over(t)
	}
	s.tellNews()
	clear(tasks)
	for tasks = tasks[:0]; len(tasks) == 0; {
		if s.pool.closing || s.ready.head == nil && s.pool.wait() && s.ready.head == nil {
			s.pool.left()
			return nil
		}
		tasks = s.begin(tasks)
	}
	s.wake()
	return tasks
}

// begin appends what is handled next, none where what was ready waits at the
// gate.
func (s *scheduler) begin(tasks []*task) []*task {
	for s.ready.head != nil {
		t := s.ready.head
		if len(tasks) > 0 && (t.sub != tasks[0].sub || t.alone || s.gate.stops(t)) {
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
		t.state = taskRunning
		tasks = append(tasks, t)
		if t.sub == nil || t.sub.batch == nil || t.alone || s.gate.probe == t || len(tasks) == t.sub.batchSize {
			break
		}
	}
	return tasks
}

// giveBack is exchange for a worker that does not go on.
func (s *scheduler) giveBack(tasks []*task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.over(t)
	}
	s.tellNews()
	s.wake()
}

// over takes back a task after an attempt.
func (s *scheduler) over(t *task) {
	t.renew()
	s.endClaim(t)
	switch {
	case t.verdict == unbegun:
	case t.unseen: // it says nothing of whether handlers can begin
		s.gate.forget(t)
	default:
		s.gate.passed(t)
	}
	if t.verdict == again {
		t.due = time.Now().Add(t.after)
	}
	leaves := t.abandoned || s.draining || t.lost // what is to be tried again is handed back
	switch {
	case t.abandoned:
		s.gate.forget(t)
		s.quit(t)
	case t.verdict != again && t.verdict != unbegun:
		s.conclude(t)
	case leaves:
		s.gate.forget(t)
		s.quit(t)
	case t.verdict == unbegun && s.gate.close(t):
		s.gate.wait(t)
	case t.after <= 0:
		s.makeReady(t)
	default:
		s.hold(t)
		t.state = taskHeld
		t.timer = time.AfterFunc(t.after, func() { s.release(t) })
		s.signalRoom()
	}
	s.grant(t.in.Message.Key)
}

// conclude has t settled, and lets its key go on.
func (s *scheduler) conclude(t *task) {
	t.state = taskDone
	s.settling++
	s.done = append(s.done, t)
	s.leaveLane(t)
	select {
	case s.finish <- struct{}{}:
	default:
	}
}

// leaveLane takes t out of its lane; if t was the first, the next one goes on.
func (s *scheduler) leaveLane(t *task) {
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
func (s *scheduler) quit(t *task) {
	t.state = taskDropped
	s.endClaim(t)
	s.recall.handedBack(t)
	s.leaveLane(t)
	s.forget(t)
	s.signalRoom()
}

// hold has t's key wait with it.
func (s *scheduler) hold(t *task) {
	if t.lane != nil {
		t.lane.held, t.lane.failed = true, true
		s.stuck += t.lane.n
	} else {
		s.stuck++
	}
}

func (s *scheduler) unhold(t *task) {
	if t.lane != nil {
		t.lane.held = false
		s.stuck -= t.lane.n
	} else {
		s.stuck--
	}
}

// release lets a held task be tried again.
func (s *scheduler) release(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.state != taskHeld {
		return
	}
	s.unhold(t)
	s.makeReady(t)
	s.wake()
}

// takeDone returns the tasks to be settled. The slice given is used for the
// next ones.
func (s *scheduler) takeDone(spare []*task) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.done
	s.done = spare[:0]
	return batch
}

// settled forgets tasks that are out of hand.
func (s *scheduler) settled(tasks []*task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		if t.lost { // and waits for this, perhaps
			s.recall.settled(t)
		}
		s.forget(t)
	}
	s.settling -= len(tasks)
	s.signalRoom()
}

func (s *scheduler) forget(t *task) {
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

// each calls f for every task in hand of a source. f must not block.
func (s *scheduler) each(from *source, f func(*task)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := s.all.head; t != nil; t = t.nextAll {
		if t.from == from {
			f(t)
		}
	}
}
