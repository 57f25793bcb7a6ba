package dovetail

import (
	"container/heap"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A sendQueue holds the single sends that wait for a flight, those of one key in
// a lane of their own. A lane whose key is free is ready. The first of all ready
// lanes is at hand however many wait behind a key that is not free.
//
// Every operation takes constant time, or time that grows with the logarithm of
// the number of ready lanes.
type sendQueue struct {
	lanes map[string]*sendLane // that hold sends, by key
	ready laneHeap
	place uint64 // of who came last
	steps int    // work done: a test bounds it for each send
}

// A sendLane is the sends of one key, in order.
type sendLane struct {
	key         string
	first, last *queuedSend
	at          int // in the heap of ready lanes; -1 while it is not ready
}

// A queuedSend is one caller's message.
type queuedSend struct {
	messages []*driver.Message // one
	until    time.Time         // when the caller's time is up
	lead     chan struct{}     // closed: it is your turn to send, for all who queue
	flight   uint64            // that it leads
	done     chan error        // your message's outcome
	unsure   bool              // it may have been sent by a leader who gave up
	gone     bool              // nobody waits for it any more

	lane       *sendLane // that it waits in; nil while it is under way
	prev, next *queuedSend
	place      uint64 // in the order in which all came
}

// push adds a send behind all others. free says whether its key is.
func (w *sendQueue) push(q *queuedSend, free bool) {
	w.place++
	q.place = w.place
	l := w.laneOf(q, free)
	q.prev = l.last
	if l.last == nil {
		l.first = q
	} else {
		l.last.next = q
	}
	l.last = q
	w.fixReady(l, free)
}

// putBack adds a send that had left the queue before the others of its lane.
func (w *sendQueue) putBack(q *queuedSend, free bool) {
	l := w.laneOf(q, free)
	q.next = l.first
	if l.first == nil {
		l.last = q
	} else {
		l.first.prev = q
	}
	l.first = q
	w.fixReady(l, free)
}

func (w *sendQueue) laneOf(q *queuedSend, free bool) *sendLane {
	w.steps++
	key := q.messages[0].Key
	l := w.lanes[key]
	if l == nil {
		if w.lanes == nil {
			w.lanes = make(map[string]*sendLane)
		}
		l = &sendLane{key: key, at: -1}
		w.lanes[key] = l
	}
	q.lane = l
	return l
}

// fixReady puts a lane whose first has changed where it belongs among the ready ones.
func (w *sendQueue) fixReady(l *sendLane, free bool) {
	w.steps++
	switch {
	case l.first == nil:
		delete(w.lanes, l.key)
		fallthrough
	case !free:
		if l.at >= 0 {
			heap.Remove(&w.ready, l.at)
		}
	case l.at < 0:
		heap.Push(&w.ready, l)
	default:
		heap.Fix(&w.ready, l.at)
	}
}

// remove takes a send out of the queue.
func (w *sendQueue) remove(q *queuedSend) {
	l := q.lane
	if q.prev == nil {
		l.first = q.next
	} else {
		q.prev.next = q.next
	}
	if q.next == nil {
		l.last = q.prev
	} else {
		q.next.prev = q.prev
	}
	q.lane, q.prev, q.next = nil, nil, nil
	w.fixReady(l, l.at >= 0)
}

// first returns the first send whose key is free, nil if there is none.
func (w *sendQueue) first() *queuedSend {
	if len(w.ready) == 0 {
		return nil
	}
	return w.ready[0].first
}

// block says that a key is under way: its lane is not ready. Messages without a
// key never wait for each other.
func (w *sendQueue) block(key string) {
	if key == "" {
		return
	}
	if l := w.lanes[key]; l != nil && l.at >= 0 {
		w.fixReady(l, false)
	}
}

// unblock says that a key is free again.
func (w *sendQueue) unblock(key string) {
	if l := w.lanes[key]; l != nil && l.at < 0 {
		w.fixReady(l, true)
	}
}

// laneHeap orders lanes by the place of their first send.
type laneHeap []*sendLane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].first.place < h[j].first.place }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(l any) {
	lane := l.(*sendLane)
	lane.at = len(*h)
	*h = append(*h, lane)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	n := len(old) - 1
	lane := old[n]
	lane.at = -1
	old[n] = nil
	*h = old[:n]
	return lane
}
