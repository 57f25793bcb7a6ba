package outbox

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// window is what the relay has read and not yet passed, in the order of the
// outbox. It gives out messages so that of each key only one is under way,
// unless the transport keeps the order of a key itself, in a batch or over
// several: if the first of two unconfirmed messages is refused and the second is
// not, sending the first again would be too late.
type window struct {
	pipelined bool
	batched   bool     // … unless the transport keeps the order of a key within a batch
	large     int      // a message of more bytes shares no batch with others of its key
	round     int      // batches given out
	entries   []*entry // from the first that is not done
	lanes     map[laneKey]*lane
	waiting   int // entries that are not done
	bytes     int
	unread    int // entries that cannot be read and are not done
}

type laneKey struct{ channel, name string }

// lane is the messages of one key, or one message without a key.
type lane struct {
	key      laneKey
	queue    []*entry // not done
	attempts int      // failed ones, since the last success
	round    int      // the last round that used this lane: open and closed are of that round
	open     int      // entries of it in the batch that is being made
	closed   bool     // no more of it
	stopped  int      // the round in which nothing more of it may be sent
	failure
}

// failure is how a lane fails.
type failure struct {
	first         time.Time // since when
	retry         time.Time // not before
	err           error
	kind          driver.Kind
	others        int64 // what had been published when it began to fail
	othersChannel int64 // on its channel
}

type entry struct {
	store.Row
	lane *lane
	held *store.Held // where it was held, of the held rows' window
	sent bool        // under way
	done bool        // published or held
}

// largeMessage is from how many bytes on a message goes without others of its
// key: a batch stores what is behind one that is too large for the broker, and
// none refuses a message of this size for that.
const largeMessage = 16 << 10

func newWindow(c driver.Capabilities) *window {
	w := &window{pipelined: c.OrderedPipeline, batched: c.OrderedBatch, large: largeMessage, lanes: map[laneKey]*lane{}}
	if c.MaxBytes > 0 {
		w.large = min(w.large, c.MaxBytes)
	}
	return w
}

// emptyCopy is an empty window of the same kind.
func (w *window) emptyCopy() *window {
	return &window{pipelined: w.pipelined, batched: w.batched, large: w.large, lanes: map[laneKey]*lane{}}
}

// add appends a row.
func (w *window) add(r store.Row, k laneKey) *entry {
	e := &entry{Row: r}
	if r.Message.Key == "" {
		e.lane = &lane{key: k, queue: []*entry{e}} // nobody else's: no need to look it up
	} else {
		l := w.lanes[k]
		if l == nil {
			l = &lane{key: k}
			w.lanes[k] = l
		}
		l.queue = append(l.queue, e)
		e.lane = l
	}
	w.entries = append(w.entries, e)
	w.waiting++
	w.bytes += len(r.Message.Body)
	if r.Err != nil {
		w.unread++
	}
	return e
}

// ready returns at most max entries that may be sent now, in order, and marks
// them. If there are none, next says when there will be, zero for not before
// something else happens.
func (w *window) ready(now time.Time, max int) (ready []*entry, next time.Time) {
	w.round++
	for _, e := range w.entries {
		if e.done || e.sent {
			continue
		}
		l := e.lane
		if e.Err != nil { // neither it nor what is behind it
			l.stopped = w.round
		}
		switch {
		case l.stopped == w.round:
			continue
		case l.retry.After(now):
			if next.IsZero() || l.retry.Before(next) {
				next = l.retry
			}
			continue
		case w.pipelined && l.attempts == 0:
			if w.isLarge(e) { // a client that refuses it would send what is behind it
				l.stopped = w.round
			}
		case w.follows(e):
		default:
			continue
		}
		e.sent = true
		ready = append(ready, e)
		if len(ready) == max {
			break
		}
	}
	return ready, next
}

// follows reports whether an entry may be of the batch that is being made: as
// the first of its lane, or behind those that are in it.
func (w *window) follows(e *entry) bool {
	l := e.lane
	if l.round != w.round {
		l.round, l.open, l.closed = w.round, 0, false
	}
	if l.queue[l.open] != e {
		return false
	}
	large := w.batched && w.isLarge(e)
	if l.open > 0 && (!w.batched || l.attempts > 0 || l.closed || large) {
		l.closed = true
		return false
	}
	l.open++
	l.closed = large
	return true
}

// isLarge reports whether an entry may be too large for the broker, and others
// come behind it.
func (w *window) isLarge(e *entry) bool { return e.Message.Key != "" && e.Message.Size() > w.large }

// finish says that an entry is published or held.
func (w *window) finish(e *entry) {
	e.done, e.sent = true, false
	w.waiting--
	w.bytes -= len(e.Message.Body)
	if e.Err != nil {
		w.unread--
	}
	l := e.lane
	for len(l.queue) > 0 && l.queue[0].done {
		l.queue = l.queue[1:]
	}
	if len(l.queue) == 0 && e.Message.Key != "" {
		delete(w.lanes, l.key)
	}
}

// unsent marks an entry as not published: it is sent again. What was sent behind it in
// its lane and was confirmed stays done; the rest follows in order.
func (w *window) unsent(e *entry) { e.sent = false }

// passed removes what is done from the front and returns how many, and the
// position of the last.
func (w *window) passed() (n int, to store.Position) {
	for n < len(w.entries) && w.entries[n].done {
		to = w.entries[n].Position
		w.entries[n] = nil
		n++
	}
	w.entries = w.entries[n:]
	return n, to
}
