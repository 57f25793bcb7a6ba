package dovetail

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// deadLog writes to the log of dead letters: the first of a group at once, then
// one line a minute with how many came since, and an alarm where they pile up. A
// sender of what nobody can read must not fill the log.
type deadLog struct {
	mu     sync.Mutex
	groups map[string]*deadCount
	over   bool
	alarms atomic.Int64 // that were given
}

type deadCount struct {
	last  time.Time // of the last line
	since int       // dead letters since
	n     Notice    // the latest of them
	timer *time.Timer
}

// deadEvery is how far apart the lines of one group are.
const deadEvery = time.Minute

// deadAlarm is at how many dead letters of this process the first alarm comes; the
// next ones come at ten times as many. Brokers' own bounds of a channel are not
// known here, and most are far beyond.
const deadAlarm = 1000

// line reports whether a dead letter is told now. Those that are not are counted,
// and told within a minute.
func (d *deadLog) line(s *Service, n Notice) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.groups == nil {
		d.groups = make(map[string]*deadCount)
	}
	c := d.groups[n.Group]
	if c == nil {
		c = new(deadCount)
		d.groups[n.Group] = c
	}
	if at := time.Now(); c.since == 0 && (c.last.IsZero() || at.Sub(c.last) >= deadEvery) {
		c.last = at
		return true
	}
	n.Message = &driver.Message{Type: n.Message.Type, ID: n.Message.ID} // without the body
	c.since, c.n = c.since+1, n
	if c.timer == nil && !d.over {
		c.timer = time.AfterFunc(time.Until(c.last.Add(deadEvery)), func() { d.flush(s, n.Group) })
	}
	return false
}

// flush tells of the dead letters of a group that were counted.
func (d *deadLog) flush(s *Service, group string) {
	d.mu.Lock()
	c := d.groups[group]
	n, since := c.n, c.since
	c.last, c.since, c.n, c.timer = time.Now(), 0, Notice{}, nil
	d.mu.Unlock()
	if since > 0 {
		n.Count = since
		s.write(slog.LevelWarn, n)
	}
}

// end tells of all that were counted: the service ends.
func (d *deadLog) end(s *Service) {
	d.mu.Lock()
	d.over = true
	var groups []string
	for group, c := range d.groups {
		if c.timer != nil {
			c.timer.Stop()
		}
		groups = append(groups, group)
	}
	d.mu.Unlock()
	for _, group := range groups {
		d.flush(s, group)
	}
}

// alarm tells that dead letters pile up, at a thousand, ten thousand and so on.
func (s *Service) alarm(n int64) {
	given, at := s.deadLog.alarms.Load(), int64(deadAlarm)
	for range given {
		at *= 10
	}
	if n < at || !s.deadLog.alarms.CompareAndSwap(given, given+1) {
		return
	}
	s.opts.Logger.LogAttrs(context.Background(), slog.LevelError, "dead letters pile up", slog.String("service", s.name),
		slog.String("channel", DeadLetterChannel(s.name)), slog.Int64("count", n),
		slog.String("remedy", "look at them with dovetail dead list, and requeue or discard them: when the channel is full, messages that cannot be handled wait in place, and at last all of their subscription"))
}
