// Package prefix turns settlement in any order into the contiguous prefix that
// cumulative acknowledgement wants: Kafka's committed offset, JetStream's
// AckAll, AMQP's multiple flag, a cursor in a file or a table.
//
// A transport keeps one [Tracker] for each partition that it owns, adds the
// positions as it hands them out, marks them done as they are settled, and
// acknowledges the prefix when it has advanced. What is settled beyond the
// first unsettled position is remembered, and acknowledged with it; after a
// crash it comes again, which is at most what the tracker may hold.
package prefix

import "fmt"

// A Tracker follows the positions of one partition. Positions are whatever the
// engine numbers messages with; they ascend and may have gaps (deleted or
// compacted messages, transaction markers, messages of other keys).
//
// Add and Done take constant time where positions are contiguous, logarithmic
// time where there are gaps, and allocate only while the ring grows towards its
// limit. A Tracker is not safe for concurrent use.
type Tracker struct {
	limit int
	ring  []entry // length a power of two
	head  int     // the first position beyond the prefix, which is not done
	n     int
	open  int // of n, not done
	last  uint64
	any   bool // last is set: something was added since Reset
	upTo  uint64
	moved bool // upTo is set
	term  uint64
}

type entry struct {
	pos  uint64
	done bool
}

// New returns a tracker that holds at most limit positions beyond the prefix,
// done and not done together. A limit below 1 counts as 1.
func New(limit int) *Tracker { return &Tracker{limit: max(1, limit)} }

// Add notes that pos was handed out. Positions are added in ascending order; one
// that was added already, as when a message is delivered again, changes nothing.
// It returns an error when the tracker is full, which means that the transport
// should have stopped fetching (see Full), and when pos lies before one that was
// added, which only a Reset may allow.
func (t *Tracker) Add(pos uint64) error {
	if t.any && pos <= t.last {
		if _, known := t.find(pos); known || t.moved && pos <= t.upTo {
			return nil
		}
		return fmt.Errorf("position %d after %d: positions ascend; Reset the tracker when a partition begins anew", pos, t.last)
	}
	if t.n == t.limit {
		return fmt.Errorf("position %d: %d positions from %d on wait for the first to be settled: fetch no more while Full", pos, t.n, t.at(0).pos)
	}
	if t.n == len(t.ring) {
		t.grow()
	}
	t.n++
	*t.at(t.n - 1) = entry{pos: pos}
	t.open++
	t.last, t.any = pos, true
	return nil
}

// Done notes that pos was settled, and returns the prefix and whether this
// advanced it. A position that is done already, or was never added, changes
// nothing.
func (t *Tracker) Done(pos uint64) (upTo uint64, advanced bool) {
	i, known := t.find(pos)
	if !known || t.at(i).done {
		return t.upTo, false
	}
	t.at(i).done = true
	t.open--
	if i > 0 {
		return t.upTo, false
	}
	for t.n > 0 && t.at(0).done {
		t.upTo = t.at(0).pos
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.n--
	}
	t.moved = true
	return t.upTo, true
}

// Prefix returns the last position of the prefix: it and all that were added
// before it are done. ok is false while there is none since New or Reset.
func (t *Tracker) Prefix() (upTo uint64, ok bool) { return t.upTo, t.moved }

// First returns the first position that is not done: where a successor begins.
// ok is false when everything that was added is done.
func (t *Tracker) First() (pos uint64, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	return t.at(0).pos, true
}

// Len returns how many positions are held beyond the prefix: what a crash
// repeats.
func (t *Tracker) Len() int { return t.n }

// Open returns how many positions were added and are not done.
func (t *Tracker) Open() int { return t.open }

// Full reports whether Add would fail. It is so for as long as the first
// position is not settled, however many behind it are.
func (t *Tracker) Full() bool { return t.n == t.limit }

// IsOpen reports whether pos was added and is not done.
func (t *Tracker) IsOpen(pos uint64) bool {
	i, known := t.find(pos)
	return known && !t.at(i).done
}

// Reset forgets everything, for a partition that was lost, taken over or
// rewound, and begins the next term. Positions may then begin anywhere. A
// transport keeps the term of a delivery in its receipt and passes over
// settlements of another term, so that what a former owner still held is not
// taken for what the present one was given.
func (t *Tracker) Reset() {
	t.head, t.n, t.open = 0, 0, 0
	t.last, t.any, t.upTo, t.moved = 0, false, 0, false
	t.term++
}

// Term returns how often the tracker was Reset.
func (t *Tracker) Term() uint64 { return t.term }

func (t *Tracker) at(i int) *entry { return &t.ring[(t.head+i)&(len(t.ring)-1)] }

// find returns where pos is. Without gaps it is as far from the head as the
// positions say; gaps can only bring it nearer, so that is where to search.
func (t *Tracker) find(pos uint64) (i int, ok bool) {
	if t.n == 0 || pos < t.at(0).pos || pos > t.last {
		return 0, false
	}
	high := t.n - 1
	if d := pos - t.at(0).pos; d < uint64(high) {
		high = int(d)
	}
	if t.at(high).pos == pos {
		return high, true
	}
	low := 0
	for low < high {
		mid := int(uint(low+high) >> 1)
		if t.at(mid).pos < pos {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, t.at(low).pos == pos
}

func (t *Tracker) grow() {
	ring := make([]entry, max(16, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = *t.at(i)
	}
	t.ring, t.head = ring, 0
}
