package membus

import (
	"math/bits"
	"slices"
	"time"
)

// A group is the queue of one subscription: a deque for each partition, and one
// more for messages without a key, which anybody may take. Everything in it is
// guarded by its channel's mutex.
type group struct {
	ch    *channel
	name  string // as driver.Subscription.GroupName has it
	owner *Conn  // of a broadcast group: the connection of its instance
	gone  bool

	parts     []partition // the last is for messages without a key
	ready     []uint64    // bit set: the partition has items
	queued    int         // items in all deques
	later     later       // items that are not due
	laterSeq  uint64
	receivers []*receiver
	turn      int // which receiver is poked first for a message without a key
}

// A partition has one owner: the receiver that it was assigned to, once no
// other has deliveries of it in hand.
type partition struct {
	q      deque
	assign *receiver // who may take next
	holder *receiver // who has deliveries in hand
	inHand int
}

func newGroup(ch *channel, name string) *group {
	n := ch.spec.Partitions + 1
	return &group{ch: ch, name: name, parts: make([]partition, n), ready: make([]uint64, (n+63)/64)}
}

func (g *group) keyless(part int) bool { return part == len(g.parts)-1 }

func (g *group) unsettled() int {
	n := g.queued + len(g.later)
	for _, r := range g.receivers {
		n += r.held
	}
	return n
}

// enqueue adds a message that was sent.
func (g *group) enqueue(m *stored) {
	if !m.msg.Due.IsZero() {
		if time.Until(m.msg.Due) > 0 {
			g.delay(item{m: m}, m.msg.Due)
			return
		}
	}
	g.parts[m.part].q.push(item{m: m, order: m.seq})
	g.added(int(m.part))
}

// added notes that a partition got an item, and pokes who may take it.
func (g *group) added(part int) {
	g.queued++
	g.ready[part>>6] |= 1 << (part & 63)
	g.poke(part)
}

// poke marks a receiver that waits and may take from part. A receiver is poked
// once for each time it waits, so that of many messages each wakes another.
func (g *group) poke(part int) {
	if !g.keyless(part) {
		if r := g.parts[part].assign; r != nil && r.waiting {
			r.poked = true
		}
		return
	}
	for i := range g.receivers {
		r := g.receivers[(g.turn+i)%len(g.receivers)]
		if r.waiting && !r.poked {
			r.poked = true
			g.turn = (g.turn + i + 1) % len(g.receivers)
			return
		}
	}
}

// wakePoked wakes the receivers that were poked.
func (g *group) wakePoked() {
	for _, r := range g.receivers {
		if r.poked {
			r.wakeUp()
		}
	}
}

// wakeAll lets every waiting receiver look again.
func (g *group) wakeAll() {
	for _, r := range g.receivers {
		r.wakeUp()
	}
}

// delay keeps an item until due.
func (g *group) delay(it item, due time.Time) {
	g.laterSeq++
	g.later.push(delayed{it, due, g.laterSeq})
	if g.later[0].seq == g.laterSeq {
		g.wakeAll() // they wait for a later one, or for none
	}
}

// promote queues the items that have become due, and returns how long until the
// next one is, negative if there is none.
func (g *group) promote() time.Duration {
	if len(g.later) == 0 {
		return -1
	}
	now := time.Now()
	for len(g.later) > 0 {
		if wait := g.later[0].due.Sub(now); wait > 0 {
			return wait
		}
		it := g.later.pop().item
		if it.order == 0 { // a message enters its key's order when it is due
			g.ch.seq++
			it.order = g.ch.seq
		}
		g.giveBack(it)
	}
	g.wakePoked()
	return -1
}

// giveBack returns an item to its place in its partition.
func (g *group) giveBack(it item) {
	part := int(it.m.part)
	g.parts[part].q.insert(it)
	g.added(part)
}

// take pops at most max items that r may have, a fair share of each partition,
// and calls each.
func (g *group) take(r *receiver, max int, each func(item)) {
	shares := 0
	for w := range g.ready {
		shares += bits.OnesCount64(g.ready[w] & r.mask[w])
	}
	if shares == 0 {
		return
	}
	// Rounds over the partitions that are ready, from where the last call ended.
	for progress := true; progress && max > 0; {
		progress = false
		share := (max + shares - 1) / shares
		for i := range len(g.ready) + 1 {
			w := (r.cursor>>6 + i) % len(g.ready)
			ready := g.ready[w] & r.mask[w]
			low := uint64(1)<<(r.cursor&63) - 1
			switch i {
			case 0:
				ready &^= low
			case len(g.ready):
				ready &= low
			}
			for ; ready != 0 && max > 0; ready &= ready - 1 {
				part := w<<6 | bits.TrailingZeros64(ready)
				n := g.takeFrom(part, r, min(share, max), each)
				max -= n
				progress = progress || n > 0
				if r.blocked {
					r.cursor = part
					return
				}
				if max == 0 {
					r.cursor = part + 1
					if r.cursor >= len(g.parts) {
						r.cursor = 0
					}
				}
			}
		}
	}
}

func (g *group) takeFrom(part int, r *receiver, max int, each func(item)) int {
	p := &g.parts[part]
	if p.holder != nil && p.holder != r && !g.keyless(part) {
		return 0 // until its old owner has settled
	}
	n := 0
	for n < max && p.q.n > 0 {
		if !r.fits(p.q.at(0).m) {
			r.blocked = true
			break
		}
		it := p.q.pop()
		it.attempt++
		each(it)
		n++
	}
	p.inHand += n
	if n > 0 {
		p.holder = r
	}
	g.queued -= n
	if p.q.n == 0 {
		g.ready[part>>6] &^= 1 << (part & 63)
	}
	return n
}

// handedBack notes that one delivery of part is no longer in hand.
func (g *group) handedBack(part int) {
	p := &g.parts[part]
	if p.inHand--; p.inHand == 0 {
		old := p.holder
		p.holder = nil
		if p.q.n > 0 && p.assign != old {
			g.poke(part)
		}
	}
}

// join and leave assign the partitions again, in turn. A partition whose holder
// is no longer its assignee moves once it has nothing in hand.
func (g *group) join(r *receiver) {
	g.receivers = append(g.receivers, r)
	g.assign()
}

func (g *group) leave(r *receiver) {
	if i := slices.Index(g.receivers, r); i >= 0 {
		g.receivers = slices.Delete(g.receivers, i, i+1)
		g.assign()
	}
}

func (g *group) assign() {
	for _, r := range g.receivers {
		r.mask = make([]uint64, len(g.ready))
	}
	for i := range g.parts {
		if g.keyless(i) {
			for _, r := range g.receivers {
				r.mask[i>>6] |= 1 << (i & 63)
			}
			continue
		}
		g.parts[i].assign = nil
		if n := len(g.receivers); n > 0 {
			r := g.receivers[i%n]
			g.parts[i].assign = r
			r.mask[i>>6] |= 1 << (i & 63)
		}
	}
	g.wakeAll()
}

// end lets go of everything the group had, and tells its receivers.
func (g *group) end() {
	g.gone = true
	let := func(it item) bool { g.ch.deref(it.m); return false }
	for i := range g.parts {
		g.parts[i].q.filter(let)
	}
	g.later.filter(let)
	g.queued = 0
	for _, r := range g.receivers {
		for h := r.hands.next; h != nil && h != &r.hands; {
			next := h.next
			r.unlink(h)
			g.ch.deref(h.it.m)
			h = next
		}
	}
	g.wakeAll()
}

// purge drops the items whose messages were removed, and those in hand stay
// with whoever has them.
func (g *group) purge() {
	keep := func(it item) bool {
		if it.m.removed {
			it.m.refs--
		}
		return !it.m.removed
	}
	for i := range g.parts {
		q := &g.parts[i].q
		g.queued -= q.filter(keep)
		if q.n == 0 {
			g.ready[i>>6] &^= 1 << (i & 63)
		}
	}
	g.later.filter(keep)
}
