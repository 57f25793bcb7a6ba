package dovetail

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A recall remembers messages that come again: those whose settlement was not
// taken, or may not have been, with what became of them; those that were handed
// back, with how often they were tried and when they are to be tried next; and
// those that are still handled although their receiver is opened again. When such a
// message comes to this process, what was handled is settled alone, what was
// tried goes on counting and waiting, and what is still handled waits. The oldest
// are forgotten.
type recall struct {
	some atomic.Bool // it may remember anything: most never do

	mu   sync.Mutex
	of   map[identity]remembered
	ring []identity // in the order of arrival
	next int        // in ring: the oldest, once it is full
}

// maxRecall bounds how many messages of one channel and group are remembered.
const maxRecall = 4096

// identity tells a delivery that comes again from another message that was given
// the same id.
type identity struct {
	source, id string
	at         int64 // when it was sent
	requeues   string
}

type remembered struct {
	state    recallState
	verdict  result
	attempts int
	due      time.Time // of one that was tried: not before
}

type recallState int

const (
	recallTried     recallState = iota // and handed back
	recallRunning                      // its handler runs, or its answer or dead letter is not sent yet
	recallConcluded                    // handled, and all that follows has happened
)

// identityOf is that of t as it was delivered. A message without an id has none.
func identityOf(t *item) (id identity, ok bool) {
	m := t.delivery.Message
	if m == nil || m.ID == "" {
		return id, false
	}
	return identity{m.Source, m.ID, m.Time.UnixNano(), m.Headers.Get(headerDeadRequeues)}, true
}

// note remembers t.
func (r *recall) note(t *item, what remembered) {
	id, ok := identityOf(t)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[identity]remembered)
	}
	r.some.Store(true)
	if _, known := r.of[id]; !known {
		if len(r.ring) < maxRecall {
			r.ring = append(r.ring, id)
		} else {
			delete(r.of, r.ring[r.next])
			r.ring[r.next] = id
			r.next = (r.next + 1) % maxRecall
		}
	}
	r.of[id] = what
}

// begins is asked before the first attempt at t. It reports whether t can be
// handled; if not, t has its result: it is settled alone, or waits.
func (r *recall) begins(t *item) bool {
	if !r.some.Load() || t.in.Attempt > 0 {
		return true
	}
	id, ok := identityOf(t)
	if !ok {
		return true
	}
	r.mu.Lock()
	what, known := r.of[id]
	r.mu.Unlock()
	switch {
	case !known:
	case what.state == recallConcluded:
		t.concluded, t.result = true, what.verdict
		return false
	case what.state == recallRunning:
		t.waits++
		t.result, t.after = resultRetry, gatePolicy.Wait(t.waits)
		return false
	case time.Until(what.due) > 0:
		t.result, t.after = resultRetry, time.Until(what.due)
		return false
	default:
		t.in.Attempt = what.attempts
	}
	return true
}

// unsettled remembers what became of t, whose settlement the engine did not take.
func (r *recall) unsettled(t *item) {
	if r != nil {
		r.note(t, remembered{state: recallConcluded, verdict: t.result})
	}
}

// running remembers that t is handled, or not settled yet, although it is
// delivered again.
func (r *recall) running(t *item) {
	if r == nil {
		return
	}
	id, _ := identityOf(t)
	r.mu.Lock()
	known := r.of[id].state == recallConcluded
	r.mu.Unlock()
	if !known {
		r.note(t, remembered{state: recallRunning})
	}
}

// handedBack remembers how often t was tried, and when it is to be tried next.
func (r *recall) handedBack(t *item) {
	if r != nil && (t.in.Attempt > 0 || t.lost) {
		r.note(t, remembered{state: recallTried, attempts: t.in.Attempt, due: t.due})
	}
}

// forget forgets an item that is settled at last.
func (r *recall) forget(t *item) {
	if id, ok := identityOf(t); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.of, id)
	}
}

// refresh replaces the delivery of an item in hand by a newer one of the same message:
// the engine took the earlier one back. The item keeps its place in the lane of its
// key, and its attempts. At the end of the lane, later messages could overtake it
// when the attempt under way fails. Two copies of one message look the same, so the
// earlier delivery is settled as well. An item that is handled and not settled yet
// goes on, and the newer delivery waits for that. refresh returns the items of ts
// that are new.
func (s *scheduler) refresh(ts []*item) []*item {
	inHand := make(map[identity]*item)
	for _, t := range ts {
		if id, ok := identityOf(t); ok && t.again() {
			inHand[id] = nil
		}
	}
	for t := s.all.head; t != nil; t = t.nextAll {
		id, ok := identityOf(t)
		if !ok || t.lost {
			continue
		}
		switch _, again := inHand[id]; {
		case !again:
		case t.state != itemDone:
			inHand[id] = t
		default:
			t.lost = true
			s.recall.running(t)
		}
	}
	return slices.DeleteFunc(ts, func(t *item) bool {
		id, ok := identityOf(t)
		first := inHand[id]
		if !ok || !t.again() || first == nil || first.from != t.from {
			return false
		}
		first.newer = append(first.newer, newer{t.delivery, t.receiver})
		if first.state != itemRunning {
			first.renew()
		}
		return true
	})
}

// A newer is a delivery of what is in hand.
type newer struct {
	delivery *driver.Delivery
	receiver driver.Receiver
}

// renew has the newest delivery of t take the place of the earlier ones. t does
// not run.
func (t *item) renew() {
	for _, n := range t.newer {
		t.earlier = append(t.earlier, t.delivery)
		t.delivery, t.receiver = n.delivery, n.receiver
	}
	t.newer = nil
}
