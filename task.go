package dovetail

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A task is a message in hand, from its delivery until it is settled, with what
// a handler is given inside. Each is made alone: one that is held or runs for
// long keeps the memory of no other.
type task struct {
	in       Incoming
	ctx      handlerContext
	from     *source
	receiver driver.Receiver // of from that delivered it
	delivery *driver.Delivery
	earlier  []*driver.Delivery // in whose place it came; the scheduler's mutex guards both while t waits
	newer    []newer            // that came while it runs; the scheduler's mutex guards it
	sub      *subscription      // nil: nobody handles it
	fault    error              // it cannot be handled: why
	letter   bool               // it came back from the dead letters, or waited
	size     int                // bytes, against the window

	state   taskState
	verdict verdict
	err     error         // of the last attempt
	after   time.Duration // until the next attempt
	timer   *time.Timer   // while held
	due     time.Time     // when the next attempt is, after one that failed

	concluded bool   // an earlier delivery was handled: it is to be settled alone
	unseen    bool   // the last attempt came to an end before its handler
	waits     int    // how often it waited for an earlier delivery
	alone     bool   // it failed with a batch as a whole: the next attempt is its own
	unready   int    // how often its handler could not begin
	lost      bool   // it is delivered again, whatever becomes of this attempt
	abandoned bool   // its partition is another instance's: it is not settled
	exit      *exit  // who waits until it is out of hand
	claim     *claim // of a letter, to its key, while its handler is about to run, and runs

	answered bool // its answer is sent
	unsent   int  // consequences that must be sent before it is settled
	rare     *rare

	lane               *lane
	ahead, behind      *task // in its lane
	queue              *taskQueue
	prevTask, nextTask *task // in its queue
	prevAll, nextAll   *task
}

// rare is what few tasks have.
type rare struct {
	cut       []string  // of a letter: what it lacks
	cutBody   string    // of a letter without a body: what it was
	noteSince time.Time // when noting its dead letter first failed
}

// again reports whether the engine says that t was delivered before.
func (t *task) again() bool { return t.delivery.Attempt > 1 }

// deliveries calls f for each delivery of t that is to be settled.
func (t *task) deliveries(f func(*driver.Delivery)) {
	f(t.delivery)
	for _, d := range t.earlier {
		f(d)
	}
	for _, n := range t.newer {
		f(n.delivery)
	}
}

type taskState int

const (
	taskWaiting taskState = iota // behind another of its key
	taskReady
	taskRunning
	taskHeld    // until its next attempt
	taskGated   // until handlers can begin again
	taskLocked  // until no other instance has its key
	taskDone    // to be settled
	taskDropped // handed back; no longer counted
)

// A lane is the messages of one key that are in hand.
type lane struct {
	key        string
	head, tail *task
	n, bytes   int
	held       bool
	failed     bool  // the first of it was held; it may be tried again at the moment
	cut        *task // the first that was set aside: all that follow are as well
	aside      int   // how many
	asides     int   // bytes of these
	next       *lane // in the free list
}

func (l *lane) add(t *task) {
	t.lane, t.ahead, t.behind = l, l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.behind = t
	}
	l.tail = t
	l.n++
	l.bytes += t.size
}

func (l *lane) remove(t *task) {
	if t.ahead == nil {
		l.head = t.behind
	} else {
		t.ahead.behind = t.behind
	}
	if t.behind == nil {
		l.tail = t.ahead
	} else {
		t.behind.ahead = t.ahead
	}
	t.lane, t.ahead, t.behind = nil, nil, nil
	l.n--
	l.bytes -= t.size
}

// taskQueue is a FIFO from which any task can be taken.
type taskQueue struct {
	head, tail *task
	n          int
}

func (q *taskQueue) push(t *task) {
	t.queue, t.prevTask, t.nextTask = q, q.tail, nil
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.nextTask = t
	}
	q.tail = t
	q.n++
}

// pushFront puts t before all others.
func (q *taskQueue) pushFront(t *task) {
	t.queue, t.prevTask, t.nextTask = q, nil, q.head
	if q.head == nil {
		q.tail = t
	} else {
		q.head.prevTask = t
	}
	q.head = t
	q.n++
}

func (q *taskQueue) remove(t *task) {
	if t.prevTask == nil {
		q.head = t.nextTask
	} else {
		t.prevTask.nextTask = t.nextTask
	}
	if t.nextTask == nil {
		q.tail = t.prevTask
	} else {
		t.nextTask.prevTask = t.prevTask
	}
	t.queue, t.prevTask, t.nextTask = nil, nil, nil
	q.n--
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
