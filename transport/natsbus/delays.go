package natsbus

import (
	"sync"
	"time"
)

// Delays are the messages of a consumer that are to be delivered again after a
// while: who asks back what was lost must leave them alone. A connection's
// receivers of one consumer hand them on to each other.
type delays struct {
	mu  sync.Mutex
	due map[uint64]time.Time // by sequence in the stream
}

// delaysOf finds those of a group's consumer.
func (c *Conn) delaysOf(stream, consumer string) *delays {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := stream + "." + consumer
	d := c.delayed[name]
	if d == nil {
		d = &delays{}
		c.delayed[name] = d
	}
	return d
}

// pruneAt is at how many delays those that are over are looked for.
const pruneAt = 1024

func (d *delays) add(seq uint64, due, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due == nil {
		d.due = map[uint64]time.Time{}
	}
	if len(d.due) >= pruneAt && len(d.due)%pruneAt == 0 {
		for seq, at := range d.due {
			if now.After(at) {
				delete(d.due, seq)
			}
		}
	}
	d.due[seq] = due
}

func (d *delays) drop(seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.due, seq)
}

// within returns those from first to last that are not over.
func (d *delays) within(first, last uint64, now time.Time) map[uint64]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := make(map[uint64]bool, len(d.due))
	for seq, at := range d.due {
		if now.Before(at) && first <= seq && seq <= last {
			left[seq] = true
		}
	}
	return left
}
