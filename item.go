package dovetail

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// An item is a message in hand, from its delivery until it is settled, with what
// a handler is given inside. Each is made alone: one that is held or runs for
// long keeps the memory of no other.
type item struct {
	in       Delivery
	ctx      handlerContext
	from     *source
	receiver driver.Receiver // of from that delivered it
	delivery *driver.Delivery
	earlier  []*driver.Delivery // older deliveries of the same message, which are settled with this one; the scheduler's mutex guards both while t waits
	newer    []newer            // that came while it runs; the scheduler's mutex guards it
	sub      *subscription      // nil: nobody handles it
	fault    error              // it cannot be handled: why
	letter   bool               // it came back from the dead letters, or waited
	size     int                // bytes, against the window

	state  itemState
	result result
	err    error         // of the last attempt
	after  time.Duration // until the next attempt
	timer  *time.Timer   // while held
	due    time.Time     // when the next attempt is, after one that failed
	since  time.Time     // it was first held, or its partition lost
	ticks  int           // how many ticks have found its handler running

	concluded bool   // an earlier delivery was handled: it is to be settled alone
	unseen    bool   // the last attempt ended before the handler was called
	waits     int    // how often it waited for an earlier delivery
	alone     bool   // it failed with a batch as a whole: the next attempt is its own
	unready   int    // how often its handler could not begin
	lost      bool   // the engine redelivers it, whatever becomes of this attempt
	abandoned bool   // its partition is another instance's: it is not settled
	exit      *exit  // who waits until it is out of hand
	claim     *claim // of a letter, to its key, while its handler is about to run, and runs

	answered   bool            // its answer is sent
	unanswered *driver.Message // its answer, which was tried and is not sent
	unsent     int             // outgoing messages that must be sent before it is settled
	rare       *rare

	lane               *lane
	ahead, behind      *item // in its lane
	queue              *itemQueue
	prevItem, nextItem *item // in its queue
	prevAll, nextAll   *item
}

// rare is what few items have.
type rare struct {
	cut       []string  // of a letter: what it lacks
	cutBody   string    // of a letter without a body: what it was
	noteSince time.Time // when noting its dead letter first failed
}

// again reports whether the engine says that t was delivered before.
func (t *item) again() bool { return t.delivery.Attempt > 1 }

// deliveries calls f for each delivery of t that is to be settled.
func (t *item) deliveries(f func(*driver.Delivery)) {
	f(t.delivery)
	for _, d := range t.earlier {
		f(d)
	}
	for _, n := range t.newer {
		f(n.delivery)
	}
}

type itemState int

const (
	itemWaiting itemState = iota // behind another of its key
	itemReady
	itemRunning
	itemHeld    // until its next attempt
	itemGated   // until handlers can begin again
	itemLocked  // until no other instance has its key
	itemDone    // to be settled
	itemDropped // handed back; no longer counted
)

// A lane is the messages of one key that are in hand.
type lane struct {
	key        string
	head, tail *item
	n, bytes   int
	held       bool
	failed     bool  // the first of it was held; it may be tried again at the moment
	cut        *item // the first that was set aside: all that follow are as well
	aside      int   // how many
	asides     int   // bytes of these
	next       *lane // in the free list
}

func (l *lane) add(t *item) {
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

func (l *lane) remove(t *item) {
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

// itemQueue is a FIFO from which any item can be taken.
type itemQueue struct {
	head, tail *item
	n          int
}

func (q *itemQueue) push(t *item) {
	t.queue, t.prevItem, t.nextItem = q, q.tail, nil
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.nextItem = t
	}
	q.tail = t
	q.n++
}

// pushFront puts t before all others.
func (q *itemQueue) pushFront(t *item) {
	t.queue, t.prevItem, t.nextItem = q, nil, q.head
	if q.head == nil {
		q.tail = t
	} else {
		q.head.prevItem = t
	}
	q.head = t
	q.n++
}

func (q *itemQueue) remove(t *item) {
	if t.prevItem == nil {
		q.head = t.nextItem
	} else {
		t.prevItem.nextItem = t.nextItem
	}
	if t.nextItem == nil {
		q.tail = t.prevItem
	} else {
		t.nextItem.prevItem = t.prevItem
	}
	t.queue, t.prevItem, t.nextItem = nil, nil, nil
	q.n--
}

// itemList holds every item in hand, oldest first.
type itemList struct{ head, tail *item }

func (l *itemList) add(t *item) {
	t.prevAll, t.nextAll = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.nextAll = t
	}
	l.tail = t
}

func (l *itemList) remove(t *item) {
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
