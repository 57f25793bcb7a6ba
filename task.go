package dovetail

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A task is a message in hand, from its delivery until it is settled. Tasks are
// made by the batch, with what a handler is given inside, so that a message
// costs no allocation of its own here.
type task struct {
	in       Incoming
	ctx      handlerContext
	from     *source
	delivery *driver.Delivery
	sub      *subscription // nil: nobody handles it
	token    string        // of the request that it is, for the reply
	fault    error         // it cannot be handled: why
	letter   bool          // it came back from the dead letters, or waited
	size     int           // bytes, against the window

	state   taskState
	verdict verdict
	err     error         // of the last attempt
	after   time.Duration // until the next attempt
	timer   *time.Timer   // while held

	answered bool // its answer is sent
	unsent   int  // consequences that must be sent before it is settled

	lane      *lane
	behind    *task // next in its lane
	nextReady *task
	prevAll   *task
	nextAll   *task
}

type taskState int

const (
	taskWaiting taskState = iota // behind another of its key
	taskReady
	taskRunning
	taskHeld    // until its next attempt
	taskDone    // to be settled
	taskDropped // handed back; no longer counted
)

// taskQueue is a FIFO, linked through nextReady.
type taskQueue struct{ head, tail *task }

func (q *taskQueue) push(t *task) {
	t.nextReady = nil
	if q.tail == nil {
		q.head, q.tail = t, t
		return
	}
	q.tail.nextReady = t
	q.tail = t
}

func (q *taskQueue) pop() *task {
	t := q.head
	q.head = t.nextReady
	if q.head == nil {
		q.tail = nil
	}
	t.nextReady = nil
	return t
}

// taskList holds every task in hand, oldest first.
type taskList struct{ head, tail *task }

func (l *taskList) add(t *task) {
	t.prevAll, t.nextAll = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.nextAll = t
	}
	l.tail = t
}

func (l *taskList) remove(t *task) {
	if t.prevAll == nil {
		l.head = t.nextAll
	} else {
		t.prevAll.nextAll = t.nextAll
	}
	if t.nextAll == nil {
		l.tail = t.prevAll
	} else {
		t.nextAll.prevAll = t.prevAll
	}
	t.prevAll, t.nextAll = nil, nil
}
