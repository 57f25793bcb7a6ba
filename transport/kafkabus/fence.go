package kafkabus

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// When a record fails, the client fails with it what it has buffered behind it
// in the partition, and keeps order that far. It knows nothing of what is handed
// to it next, which would overtake the failed record's next try. So a failure
// fences its topic: every Send under way to it is cancelled, and what is sent to
// it later is held back, until the Sends that failed have told their callers.
//
// Nearly all failures are ours, since the client tries until a record's time is
// over: the fence then stands before any record has failed. Where the server has
// refused a record for good, it stands before the client has room for another.

// fencing is what the fences of a sending need; all but the atomics belong to
// Conn.sendMu.
type fencing struct {
	timer *time.Timer // asks who leads, and ends the records' time
	until time.Time   // that is
	turn  uint64      // tells a sending from the next that has its memory
	holds []string    // topics that are shut until it is over
	met   []string    // topics that were shut when it began
	shut  atomic.Bool // there are such topics: not all its records are handed over
	late  atomic.Bool // its records' time is over
}

// errBehind is the error of a record that was held back for the sake of order.
var errBehind = fmt.Errorf("%w: an earlier message for it was not confirmed", driver.ErrRetryable)

// begin notes that s is under way. Its records have time from now on.
func (c *Conn) begin(s *sending) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.sends[s] = struct{}{}
	c.turn++
	turn := c.turn
	s.turn = turn
	s.until = time.Now().Add(c.opts.Timeout)
	s.timer = time.AfterFunc(min(unanswered, c.opts.Timeout), func() { c.expire(s, turn) })
	if len(c.fenced) == 0 {
		return
	}
	for _, t := range s.topics {
		if c.fenced[t] > 0 {
			s.met = append(s.met, t)
			s.shut.Store(true)
		}
	}
}

// end notes that s is over and its caller is told.
func (c *Conn) end(s *sending) {
	s.cancel()
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	s.timer.Stop()
	delete(c.sends, s)
	for _, t := range s.holds {
		if c.fenced[t]--; c.fenced[t] == 0 {
			delete(c.fenced, t)
		}
	}
	clear(s.holds)
	clear(s.met)
	s.holds, s.met = s.holds[:0], s.met[:0]
}

// isShut reports whether a record of s for a topic is to be held back: as those
// before it were, even if the topic is not shut any more.
func (c *Conn) isShut(s *sending, topic string) bool {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return slices.Contains(s.holds, topic) || slices.Contains(s.met, topic)
}

// unanswered is after how long the client asks who leads, while records are not
// confirmed: a leader that has fallen silent does not say that it leads no more.
const unanswered = time.Second

// expire ends the time of a sending's records, once that has come.
func (c *Conn) expire(s *sending, turn uint64) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if _, open := c.sends[s]; !open || s.turn != turn {
		return
	}
	if left := time.Until(s.until); left > 0 {
		c.client.ForceMetadataRefresh()
		s.timer.Reset(min(unanswered, left))
		return
	}
	s.late.Store(true)
	for _, t := range s.topics {
		c.fenceOff(t)
	}
	s.cancel() // also where it holds its topics already
}

// fence is for a record of s that has failed.
func (c *Conn) fence(s *sending, topic string) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if !slices.Contains(s.holds, topic) {
		c.hold(s, topic)
		s.endTopic(topic)
		c.fenceOff(topic)
	}
}

// fenceOff cancels what is under way to a topic. What that takes with it in
// other topics fences these as well.
func (c *Conn) fenceOff(topic string) {
	for s := range c.sends {
		if !slices.Contains(s.topics, topic) || slices.Contains(s.holds, topic) {
			continue
		}
		s.cancel()
		for _, t := range s.topics {
			if !slices.Contains(s.holds, t) {
				c.hold(s, t)
				defer c.fenceOff(t)
			}
		}
	}
}

// hold shuts a topic until s is over.
func (c *Conn) hold(s *sending, topic string) {
	s.holds = append(s.holds, topic)
	c.fenced[topic]++
	s.shut.Store(true)
}
