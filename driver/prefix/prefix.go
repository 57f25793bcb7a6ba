// Package prefix turns settlement in any order into the contiguous prefix that
// cumulative acknowledgement needs: Kafka's committed offset, JetStream's
// AckAll, AMQP's multiple flag, a cursor in a file or a table.
//
// A transport keeps one [Tracker] for each partition that it owns. It adds
// positions when it delivers them, marks them done when they are settled, and
// acknowledges the prefix when the prefix has advanced. The tracker remembers
// what is settled beyond the first unsettled position; it is acknowledged when that
// position is settled. After a crash the engine delivers it again, at most as many
// messages as the tracker may hold.
package prefix

import "fmt"

// A Tracker follows the positions of one partition. Positions are the numbers that
// the engine gives to messages. They ascend and may have gaps (deleted or compacted
// messages, transaction markers, messages of other keys). A position is open from
// Add until Done. The prefix is all positions before the first open one.
//
// Add and Done take constant time where positions are contiguous, logarithmic
// time where there are gaps, both amortised. What is done beyond the first open
// position is kept as runs, so that memory grows with the open positions and not
// with the limit. A Tracker is not safe for concurrent use. Make one with New: the
// zero value must not be used.
type Tracker struct {
	limit int
	ring  []run // length a power of two
	head  int   // the first run beyond the prefix, which is not done
	n     int   // runs in the ring
	held  int   // positions in them
	open  int   // of held, not done
	last  uint64
	any   bool // last is set: something was added since Reset
	upTo  uint64
	moved bool // upTo is set
	term  uint64
}

// A run is one open position, or some that are done and, as far as positions were
// added, follow each other.
type run struct {
	first, last uint64
	n           int // positions
	done        bool
}

// New returns a tracker that holds at most limit positions beyond the prefix, open
// and done ones together. A limit below 1 counts as 1.
func New(limit int) *Tracker { return &Tracker{limit: max(1, limit)} }

// Add notes that the message at pos was delivered: pos is open now. Positions are
// added in ascending order. To add one again, as when a message is delivered again,
// changes nothing. Add returns an error, and changes nothing, when the tracker is full
// (the transport fetches no more while Full), and when pos is new and lies before one
// that was added (the transport calls Reset first).
func (t *Tracker) Add(pos uint64) error {
	if t.any && pos <= t.last {
		if _, known := t.find(pos); known || t.moved && pos <= t.upTo {
			return nil
		}
		return fmt.Errorf("position %d after %d: positions ascend; Reset the tracker when a partition begins again", pos, t.last)
	}
	if t.held == t.limit {
		return fmt.Errorf("position %d: %d positions from %d on wait for the first to be settled: fetch no more while Full", pos, t.held, t.at(0).first)
	}
	if t.n == len(t.ring) {
		t.makeRoom()
	}
	t.n++
	*t.at(t.n - 1) = run{first: pos, last: pos, n: 1}
	t.held++
	t.open++
	t.last, t.any = pos, true
	return nil
}

// Done notes that the message at pos was settled. It returns the last position of the
// prefix, as Prefix does, and whether the prefix has advanced by this call. A position
// that is done already, or was never added, changes nothing.
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
		t.upTo = t.at(0).last
		t.held -= t.at(0).n
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.n--
	}
	t.moved = true
	return t.upTo, true
}

// Prefix returns the last position of the prefix: it and all positions that were
// added before it are done. ok is false while the prefix is empty, after New or Reset.
func (t *Tracker) Prefix() (upTo uint64, ok bool) { return t.upTo, t.moved }

// First returns the first open position: where a new owner of the partition begins.
// ok is false when everything that was added is done.
func (t *Tracker) First() (pos uint64, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	return t.at(0).first, true
}

// Len returns how many positions are held beyond the prefix, open and done: at most
// so many messages are delivered again after a crash.
func (t *Tracker) Len() int { return t.held }

// Open returns how many positions are open.
func (t *Tracker) Open() int { return t.open }

// Full reports whether Add of a further position would fail. It stays so until the
// first open position is done, however many behind it are done.
func (t *Tracker) Full() bool { return t.held == t.limit }

// Runs calls yield for the runs of held positions, in ascending order, until yield
// returns false. A run is one open position, or done ones from first to last. Runs that
// follow each other may both be done. A done run may have positions in it that were
// never added. yield must not change the tracker.
func (t *Tracker) Runs(yield func(first, last uint64, open bool) bool) {
	for i := range t.n {
		if r := t.at(i); !yield(r.first, r.last, !r.done) {
			return
		}
	}
}

// IsOpen reports whether pos is open.
func (t *Tracker) IsOpen(pos uint64) bool {
	i, known := t.find(pos)
	return known && !t.at(i).done
}

// Reset forgets all positions and begins the next term. A transport calls it for a
// partition that was lost, taken over or rewound; the next position may be any. The
// transport keeps the term in the receipt of each delivery and ignores settlements of
// another term, so that the settlement of a delivery from before the Reset does not
// settle one from after it.
func (t *Tracker) Reset() {
	t.head, t.n, t.held, t.open = 0, 0, 0, 0
	t.last, t.any, t.upTo, t.moved = 0, false, 0, false
	t.term++
}

// Term returns how often Reset was called.
func (t *Tracker) Term() uint64 { return t.term }

func (t *Tracker) at(i int) *run { return &t.ring[(t.head+i)&(len(t.ring)-1)] }

// find returns in which run pos is. Without gaps, and where no runs are merged, it
// is as far from the head as the positions say; both can only bring it nearer, so
// that is where to search.
func (t *Tracker) find(pos uint64) (i int, ok bool) {
	if t.n == 0 || pos < t.at(0).first || pos > t.last {
		return 0, false
	}
	high := t.n - 1
	if d := pos - t.at(0).first; d < uint64(high) {
		high = int(d)
	}
	if r := t.at(high); r.first <= pos && pos <= r.last {
		return high, true
	}
	low := 0
	for low < high {
		mid := int(uint(low+high) >> 1)
		if t.at(mid).last < pos {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, t.at(low).first <= pos && pos <= t.at(low).last
}

// makeRoom merges neighbours that are done, and doubles the ring unless that has
// emptied half of it: each Add pays for a constant part of it.
func (t *Tracker) makeRoom() {
	kept := 0
	for i := range t.n {
		r := *t.at(i)
		if before := t.at(max(0, kept-1)); kept > 0 && r.done && before.done {
			before.last, before.n = r.last, before.n+r.n
			continue
		}
		*t.at(kept) = r
		kept++
	}
	t.n = kept
	if kept <= len(t.ring)/2 && kept > 0 {
		return
	}
	ring := make([]run, max(16, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = *t.at(i)
	}
	t.ring, t.head = ring, 0
}
