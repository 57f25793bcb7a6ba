package kafkabus

import (
	"container/heap"
	"time"
)

// A retry is an item whose message is to be handed out again, from memory: Kafka
// cannot take one back. Its position is open meanwhile, so that nothing is committed
// past it, and the tracker's limit bounds how many there are.
type retry struct {
	due time.Time
	*item
}

// retries is a heap, by time and then by offset.
type retries []*retry

func (h retries) Len() int      { return len(h) }
func (h retries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h retries) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].offset < h[j].offset
}

// Push implements heap.Interface.
func (h *retries) Push(x any) { *h = append(*h, x.(*retry)) }

// Pop implements heap.Interface.
func (h *retries) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

func (h *retries) add(again *retry) { heap.Push(h, again) }

// first is the first that is due, or nil.
func (h retries) first(now time.Time) *retry {
	if len(h) == 0 || h[0].due.After(now) {
		return nil
	}
	return h[0]
}

// pop takes the first out.
func (h *retries) pop() { heap.Pop(h) }

// due is when the first is due, the zero time if there is none.
func (h retries) due() time.Time {
	if len(h) == 0 {
		return time.Time{}
	}
	return h[0].due
}

// drop forgets what belongs to a partition.
func (h *retries) drop(p *part) {
	kept := (*h)[:0]
	for _, again := range *h {
		if again.p != p {
			kept = append(kept, again)
		}
	}
	clear((*h)[len(kept):])
	*h = kept
	heap.Init(h)
}
