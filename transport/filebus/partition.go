package filebus

import (
	"container/heap"
	"fmt"
	"os"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A part is a partition that a receiver owns. The owner is whoever holds the
// lock of the partition's file in owners; the kernel takes it from the dead.
type part struct {
	id       int
	lock     *os.File
	gen      uint64   // of the cursor last written
	next     position // first message that was never handed out, as of the cursor
	taken    uint64   // messages of the partition before next
	open     []*item  // handed out and not settled, in order; settled ones among them go with the first
	settled  int      // how many of open are
	refill   int      // first of open that was taken over and not met in the log yet
	inHand   int
	size     int      // of what is in hand, in bytes
	hint     position // where the first of open stands, as the predecessor wrote it
	from     position // where reading has to begin, while fresh is set
	fresh    bool     // the reader was not moved back to from yet
	stalled  bool     // as much is open as there may be; next says where to go on
	revoking bool     // another receiver is to have it; nothing is fetched any more
	lost     bool     // it is no longer ours
	dirty    bool     // the cursor on disk is behind
	written  uint64   // next.seq of the cursor on disk
}

// An item is a message that was handed out and not settled.
type item struct {
	p        *part
	pos      position
	attempts int
	size     int // in bytes, at least Message.Size
	state    itemState
	due      time.Time
	kept     *driver.Message // of damage, which cannot be read again
	fault    error
}

type itemState uint8

const (
	idle    itemState = iota // taken over; the reader will come by
	inHand                   // with the core
	waiting                  // to be handed out again
	settled
)

// floor is the position of the first message that is still needed.
func (p *part) floor() position {
	for _, it := range p.open {
		if it.state == settled {
			continue
		}
		if it.pos.base == noBase && it.pos.seq == p.hint.seq {
			return p.hint
		}
		return it.pos
	}
	return p.next
}

// unsettled is how many messages are open.
func (p *part) unsettled() int { return len(p.open) - p.settled }

// settle marks an item as done with.
func (p *part) settle(it *item) {
	it.state = settled
	it.kept = nil
	p.settled++
	p.dirty = true
	n := 0
	for n < len(p.open) && p.open[n].state == settled {
		p.open[n] = nil
		n++
	}
	p.open = p.open[n:]
	p.settled -= n
	p.refill = max(0, p.refill-n)
	if p.settled > 64 && p.settled > len(p.open)/2 {
		kept, refill := p.open[:0], 0
		for i, it := range p.open {
			if it.state != settled {
				kept = append(kept, it)
				if i < p.refill {
					refill++
				}
			}
		}
		clear(p.open[len(kept):])
		p.open, p.refill, p.settled = kept, refill, 0
	}
}

// meet returns the item that was taken over and stands at seq, or nil. Those
// before it that were not met are no longer there: removed, or damaged.
func (p *part) meet(seq uint64) *item {
	for p.refill < len(p.open) {
		it := p.open[p.refill]
		if it.state == idle && it.pos.seq > seq {
			return nil
		}
		if it.state == idle && it.pos.seq == seq {
			p.refill++
			return it
		}
		p.refill++
		if it.state == idle {
			p.settle(it)
		}
	}
	return nil
}

// load takes over the cursor that the predecessor left. If a loss of power tore
// it, the partition goes on from what oldest says, the first message that there
// is: segments are deleted once the cursors on disk have passed them.
func (p *part) load(f *os.File, g *groupMeta, oldest func(*groupMeta) error) error {
	c, hint, err := readCursor(f, p.id, g)
	if err != nil {
		return err
	}
	if c.torn {
		first := *g
		if err := oldest(&first); err != nil {
			return err
		}
		if first.Start > g.Start {
			c.next, c.taken = position{seq: first.Start, base: noBase}, first.Counts[p.id]
			hint = c.next
		}
	}
	p.gen, p.next, p.taken, p.hint, p.written = c.gen, c.next, c.taken, hint, c.next.seq
	for _, o := range c.open {
		p.open = append(p.open, &item{p: p, pos: position{seq: o.seq, base: noBase}, attempts: o.attempts})
	}
	p.from, p.fresh = hint, true
	return nil
}

// A scratch is memory that writing cursors uses again and again.
type scratch struct {
	open []opened
	buf  []byte
}

// persist writes the cursor.
func (p *part) persist(f *os.File, s *scratch) error {
	s.open = s.open[:0]
	for _, it := range p.open {
		if it.state != settled {
			s.open = append(s.open, opened{it.pos.seq, it.attempts})
		}
	}
	c := cursor{gen: p.gen + 1, next: p.next, taken: p.taken, open: s.open}
	s.buf = c.encode(s.buf[:0], p.floor())
	if _, err := f.WriteAt(s.buf, slotOffset(p.id, c.gen)); err != nil {
		return fmt.Errorf("write cursor: %w", err)
	}
	p.gen, p.dirty, p.written = c.gen, false, c.next.seq
	step("cursor written")
	return nil
}

// retries are the items that wait to be handed out again, soonest first.
type retries []*item

func (h retries) Len() int { return len(h) }
func (h retries) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].pos.seq < h[j].pos.seq
}
func (h retries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *retries) Push(x any)   { *h = append(*h, x.(*item)) }
func (h *retries) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}

// top returns the item that is due first, passing over lost ones.
func (h *retries) top() *item {
	for len(*h) > 0 {
		if it := (*h)[0]; !it.p.lost && it.state == waiting {
			return it
		}
		heap.Pop(h)
	}
	return nil
}
