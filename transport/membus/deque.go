package membus

import "time"

// An item is a message on its way to one group.
type item struct {
	m       *stored
	order   uint64 // its place in the partition; 0 until a delayed message is due
	attempt int    // how often it was handed out
}

// A deque is a queue of items in their order, into which an item that was given
// back returns at its place.
type deque struct {
	ring []item // length a power of two
	head int
	n    int
}

func (q *deque) at(i int) *item { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *deque) push(it item) {
	if q.n == len(q.ring) {
		q.resize(max(8, 2*q.n))
	}
	q.n++
	*q.at(q.n - 1) = it
}

func (q *deque) pop() item {
	p := q.at(0)
	it := *p
	*p = item{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	if len(q.ring) > 256 && q.n <= len(q.ring)/8 {
		q.resize(len(q.ring) / 4) // what a burst needed is not kept
	}
	return it
}

// insert puts it at its place by order. What is given back belongs near the
// front, so the search begins there.
func (q *deque) insert(it item) {
	if q.n == 0 || q.at(q.n-1).order < it.order {
		q.push(it)
		return
	}
	if q.n == len(q.ring) {
		q.resize(max(8, 2*q.n))
	}
	q.head = (q.head - 1) & (len(q.ring) - 1)
	q.n++
	i := 0
	for ; i+1 < q.n && q.at(i+1).order < it.order; i++ {
		*q.at(i) = *q.at(i + 1)
	}
	*q.at(i) = it
}

// filter keeps the items that keep wants and returns how many went.
func (q *deque) filter(keep func(item) bool) int {
	kept := 0
	for i := range q.n {
		if it := *q.at(i); keep(it) {
			*q.at(kept) = it
			kept++
		}
	}
	gone := q.n - kept
	for i := kept; i < q.n; i++ {
		*q.at(i) = item{}
	}
	q.n = kept
	return gone
}

func (q *deque) resize(size int) {
	ring := make([]item, size)
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}

// A later is a heap of items that are not due, the first due on top.
type later []delayed

type delayed struct {
	item
	due time.Time
	seq uint64 // breaks ties: first come, first due
}

func (d delayed) before(o delayed) bool {
	if c := d.due.Compare(o.due); c != 0 {
		return c < 0
	}
	return d.seq < o.seq
}

func (l *later) push(d delayed) {
	h := append(*l, d)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	*l = h
}

func (l *later) pop() delayed {
	h := *l
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = delayed{}
	h = h[:last]
	h.down(0)
	*l = h
	return top
}

func (l later) down(i int) {
	for {
		first := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(l); c++ {
			if l[c].before(l[first]) {
				first = c
			}
		}
		if first == i {
			return
		}
		l[i], l[first] = l[first], l[i]
		i = first
	}
}

// filter keeps the items that keep wants and returns how many went.
func (l *later) filter(keep func(item) bool) int {
	kept := (*l)[:0]
	for _, d := range *l {
		if keep(d.item) {
			kept = append(kept, d)
		}
	}
	gone := len(*l) - len(kept)
	clear((*l)[len(kept):])
	*l = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		kept.down(i)
	}
	return gone
}
