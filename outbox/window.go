package outbox

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// window is what the relay has read and not yet passed, in the order of the
// outbox. It gives out messages so that of each key only one is under way,
// unless the transport keeps the order of a key itself: if the first of two
// unconfirmed messages is refused and the second is not, sending the first
// again would be too late.
type window struct {
	pipelined bool
	entries   []*entry // from the first that is not done
	lanes     map[laneKey]*lane
	waiting   int // entries that are not done
	bytes     int
}

type laneKey struct{ channel, name string }

// lane is the messages of one key, or one message without a key.
type lane struct {
	key      laneKey
	queue    []*entry // not done
	attempts int      // failed ones, since the last success
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

func newWindow(pipelined bool) *window {
	return &window{pipelined: pipelined, lanes: map[laneKey]*lane{}}
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
	return e
}

// ready returns at most max entries that may be sent now, in order, and marks
// them. If there are none, next says when there will be, zero for not before
// something else happens.
func (w *window) ready(now time.Time, max int) (ready []*entry, next time.Time) {
	for _, e := range w.entries {
		if e.done || e.sent {
			continue
		}
		l := e.lane
		switch {
		case l.retry.After(now):
			if next.IsZero() || l.retry.Before(next) {
				next = l.retry
			}
			continue
		case l.queue[0] == e:
		case w.pipelined && l.attempts == 0:
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

// finish says that an entry is published or held.
func (w *window) finish(e *entry) {
	e.done, e.sent = true, false
	w.waiting--
	w.bytes -= len(e.Message.Body)
	l := e.lane
	for len(l.queue) > 0 && l.queue[0].done {
		l.queue = l.queue[1:]
	}
	if len(l.queue) == 0 && e.Message.Key != "" {
		delete(w.lanes, l.key)
	}
}

// again says that an entry was not published. What was sent behind it in its
// lane and was confirmed is done; the rest follows in order.
func (w *window) again(e *entry) { e.sent = false }

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
