package dovetail

import (
	"sync/atomic"
	"time"
)

// An exit counts the messages of one partition that had begun when the partition
// was lost, until each of them is settled or handed back.
type exit struct {
	left   atomic.Int64  // messages that are not done, and 1 until all are counted
	empty  chan struct{} // closed when none is left
	before *exit         // of the same partition, when it was lost before; may be nil
}

// noExit drops messages where no goroutine waits for their end.
var noExit = new(exit)

func newExit() *exit {
	e := &exit{empty: make(chan struct{})}
	e.left.Store(1)
	return e
}

func (e *exit) out() {
	if e.left.Add(-1) == 0 {
		close(e.empty)
	}
}

func (e *exit) isEmpty() bool {
	for ; e != nil; e = e.before {
		if e.left.Load() > 0 {
			return false
		}
	}
	return true
}

// drop hands back every message that has an exit and has not begun: it is not
// settled, so that the broker delivers it again. Those that have begun go on,
// and are not tried again; their exits count them.
func (s *scheduler) drop(of func(*item) *exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(of)
}

func (s *scheduler) dropLocked(of func(*item) *exit) {
	for t := s.all.head; t != nil; {
		next := t.nextAll
		if e := of(t); e != nil {
			s.dropOne(t, e)
		}
		t = next
	}
	s.takeBack(of)
	s.grantAll()
	s.wake()
	s.signalRoom()
}

func (s *scheduler) dropOne(t *item, e *exit) {
	switch t.state {
	case itemRunning, itemDone:
		t.lost = true
		s.recall.running(t)
		if t.exit == nil && e != noExit {
			e.left.Add(1)
			t.exit, t.since = e, time.Now()
		}
		return
	case itemHeld:
		t.timer.Stop()
		s.unhold(t)
	case itemGated:
		t.queue.remove(t)
		s.unhold(t)
	case itemLocked:
		s.unhold(t)
		s.gate.forget(t)
	case itemReady:
		t.queue.remove(t)
		s.gate.forget(t)
	case itemWaiting:
		if t.lane.held {
			s.blocked--
		}
	}
	s.quit(t)
}

// drain hands back all that has not begun, and from now on what would be tried
// again. Both happen at once: a message must not begin after one of its key was
// handed back.
func (s *scheduler) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.dropLocked(func(*item) *exit { return noExit })
}

// abandon has the messages that an exit counts not be settled: their partition
// is another instance's, which is given them again.
func (s *scheduler) abandon(e *exit) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := s.all.head; t != nil; t = t.nextAll {
		if t.exit == e {
			t.abandoned = true
			n++
		}
	}
	return n
}
