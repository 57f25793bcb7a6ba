package dovetail

import (
	"sync"
	"time"
)

// A scheduler decides which message is handled next. Messages of one key form a
// lane: the first of it is ready, running or held for a retry, and the others
// wait behind it, in order. Messages without a key are ready at once. Work is
// scheduled by key, not by a hash of it, so a held key holds no neighbour.
//
// What is in hand is bounded: at most window messages that can move, at most
// held more that wait in held lanes or to be settled, and at most maxBytes in
// all. A broker that is slow to take settlements thus does not idle the workers.
type scheduler struct {
	window, held, maxBytes int

	mu       sync.Mutex
	work     sync.Cond // ready is not empty, or closing
	ready    taskQueue
	lanes    map[string]*lane
	free     *lane // lanes to be used again
	all      taskList
	count    int // in hand
	stuck    int // of them in held lanes
	settling int // of them handled, and not settled yet
	bytes    int
	big      int     // bytes of a large message, as they have come lately
	done     []*task // to be settled
	draining bool    // hand back rather than hold
	closing  bool    // workers end

	room   chan struct{} // something was settled, or a lane is no longer held
	finish chan struct{} // done is not empty
}

// A lane is the messages of one key that are in hand.
type lane struct {
	key        string
	head, tail *task
	n          int
	held       bool
	next       *lane // in the free list
}

func newScheduler(window, held, maxBytes int) *scheduler {
	s := &scheduler{
		window: window, held: held, maxBytes: maxBytes,
		lanes:  make(map[string]*lane),
		room:   make(chan struct{}, 1),
		finish: make(chan struct{}, 1),
	}
	s.work.L = &s.mu
	return s
}

// capacity is how many more messages may be taken in.
func (s *scheduler) capacity() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count > 0 && s.bytes >= s.maxBytes {
		return 0
	}
	n := min(s.window-(s.count-s.stuck-s.settling), s.window+s.held-s.count)
	if s.big > 0 {
		n = min(n, max(1, (s.maxBytes-s.bytes)/s.big))
	}
	return max(0, n)
}

// push takes in messages, in order.
func (s *scheduler) push(tasks []*task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.all.add(t)
		s.count++
		s.bytes += t.size
		s.big = max(t.size, s.big-s.big/64)
		key := t.in.Message.Key
		if key == "" {
			s.makeReady(t)
			continue
		}
		l := s.lanes[key]
		if l == nil {
			l = s.newLane(key)
			s.lanes[key] = l
		}
		t.lane = l
		l.n++
		if l.tail == nil {
			l.head, l.tail = t, t
			s.makeReady(t)
			continue
		}
		l.tail.behind = t
		l.tail = t
		if l.held {
			s.stuck++
		}
	}
	s.wake()
}

func (s *scheduler) makeReady(t *task) {
	t.state = taskReady
	s.ready.push(t)
}

// wake wakes a worker if there is something for it. That one wakes the next, so
// that short handlers are run by few workers, which need not wait for each
// other.
func (s *scheduler) wake() {
	if s.ready.head != nil {
		s.work.Signal()
	}
}

// exchange gives back tasks whose attempt is over, each with its verdict, and
// waits for more to do: one task, or several for one batch handler. It returns
// none when the scheduler is closing. The slice is used again.
func (s *scheduler) exchange(tasks []*task) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.over(t)
	}
	tasks = tasks[:0]
	for {
		for s.ready.head == nil && !s.closing {
			s.work.Wait()
		}
		if s.closing {
			return tasks
		}
		t := s.ready.pop()
		if t.state == taskDropped {
			s.advance(t)
			continue
		}
		t.state = taskRunning
		tasks = append(tasks, t)
		batch := 1
		if t.sub != nil && t.sub.batch != nil {
			batch = t.sub.batchSize
		}
		for s.ready.head != nil && s.ready.head.sub == t.sub && s.ready.head.state == taskReady && len(tasks) < batch {
			next := s.ready.pop()
			next.state = taskRunning
			tasks = append(tasks, next)
		}
		s.wake()
		return tasks
	}
}

// giveBack is exchange for a worker that does not go on.
func (s *scheduler) giveBack(tasks []*task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.over(t)
	}
	s.wake()
}

// over takes back a task after an attempt.
func (s *scheduler) over(t *task) {
	switch {
	case t.verdict != again:
		t.state = taskDone
		s.settling++
		s.done = append(s.done, t)
		s.advance(t)
		select {
		case s.finish <- struct{}{}:
		default:
		}
	case s.draining: // hand it back by leaving it unsettled
		s.abandon(t)
		s.advance(t)
		s.signalRoom()
	default:
		t.state = taskHeld
		if t.lane != nil {
			t.lane.held = true
			s.stuck += t.lane.n
		} else {
			s.stuck++
		}
		t.timer = time.AfterFunc(t.after, func() { s.release(t) })
		s.signalRoom()
	}
}

// advance lets the next message of t's lane go, or ends the lane.
func (s *scheduler) advance(t *task) {
	l := t.lane
	if l == nil {
		return
	}
	if t.state != taskDropped {
		l.n--
	}
	l.head = t.behind
	t.behind = nil
	if l.head != nil {
		s.makeReadyAgain(l.head)
		return
	}
	delete(s.lanes, l.key)
	*l = lane{next: s.free}
	s.free = l
}

// abandon takes t out of the counts, unsettled. Where it waits in a lane or in
// the ready queue it is passed over when its turn comes.
func (s *scheduler) abandon(t *task) {
	t.state = taskDropped
	if t.lane != nil {
		t.lane.n--
		if t.lane.held {
			s.stuck--
		}
	}
	s.forget(t)
}

// makeReadyAgain is makeReady for the new head of a lane, which may have been
// dropped while it waited.
func (s *scheduler) makeReadyAgain(t *task) {
	if t.state == taskDropped {
		s.advance(t)
		return
	}
	s.makeReady(t)
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

func (s *scheduler) unhold(t *task) {
	if t.lane != nil {
		t.lane.held = false
		s.stuck -= t.lane.n
	} else {
		s.stuck--
	}
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
		s.forget(t)
	}
	s.settling -= len(tasks)
	s.signalRoom()
}

func (s *scheduler) forget(t *task) {
	s.all.remove(t)
	s.count--
	s.bytes -= t.size
}

func (s *scheduler) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// drop hands back what matches and has not begun: it is not settled, so that
// the broker delivers it again. It reports how many that match are running.
func (s *scheduler) drop(match func(*task) bool) (running int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := s.all.head; t != nil; {
		next := t.nextAll
		if match(t) {
			switch t.state {
			case taskRunning, taskDone:
				running++
			case taskHeld:
				t.timer.Stop()
				s.unhold(t)
				s.abandon(t)
				s.advance(t)
			case taskReady, taskWaiting:
				s.abandon(t)
			}
		}
		t = next
	}
	s.wake()
	s.signalRoom()
	return running
}

// drain hands back all that has not begun, and from now on what would be tried
// again.
func (s *scheduler) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.drop(func(*task) bool { return true })
}

// inHand is how many messages are received and neither settled nor handed back.
func (s *scheduler) inHand() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// close ends all workers once they have finished what they are at.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.work.Broadcast()
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
