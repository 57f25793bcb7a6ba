package dovetail

import (
	"cmp"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// StuckKind says in what way something is stuck.
type StuckKind string

// What can be stuck.
const (
	StuckHeld    StuckKind = "held"    // messages of a key wait for the next attempt at the first of them
	StuckOutage  StuckKind = "outage"  // handlers of a group cannot begin, or receivers do not reach the broker
	StuckUnsent  StuckKind = "unsent"  // the broker does not take answers or dead letters, whose messages stay unsettled
	StuckRunning StuckKind = "running" // handlers have been running for ten seconds or more
	StuckLeaving StuckKind = "leaving" // partitions are another instance's, and wait for handlers that had begun
	StuckOutbox  StuckKind = "outbox"  // an outbox cannot publish, or not all of it
)

// Stuck is something that does not go on at the moment, or only after a while. It
// is no error: most of it ends by itself.
type Stuck struct {
	Kind    StuckKind `json:"kind"`
	Channel string    `json:"channel,omitempty"`
	Group   string    `json:"group,omitempty"`
	Key     string    `json:"key,omitempty"`     // of the messages that are held; of the one that has run the longest
	Count   int       `json:"count"`             // messages; receivers, of an outage of the broker; attempts, of an outbox
	Attempt int       `json:"attempt,omitempty"` // of a message that is held, how many failed
	Since   time.Time `json:"since"`
	Next    time.Time `json:"next,omitzero"` // attempt, where one is planned
	Err     string    `json:"error,omitempty"`
}

// A Troubled is a Component that knows what of it is stuck.
type Troubled interface {
	Stuck() []Stuck
}

// maxStuck bounds how many keys of one group are told of.
const maxStuck = 100

// Stuck tells what does not go on at the moment, the oldest first: for a health
// page, an alarm, a person. Of a group it tells of a hundred keys at most;
// Stats.Held counts all messages that wait.
func (s *Service) Stuck() []Stuck {
	var all []Stuck
	if away, ok := s.broker.stuck(); ok {
		all = append(all, away)
	}
	if r := s.underway.Load(); r != nil {
		for _, b := range r.consumers {
			all = append(all, b.stuck()...)
		}
	}
	s.mu.Lock()
	components := slices.Clone(s.components)
	s.mu.Unlock()
	for _, c := range components {
		if t, ok := c.(Troubled); ok {
			_ = guarded(func() error {
				all = append(all, t.Stuck()...)
				return nil
			})
		}
	}
	slices.SortStableFunc(all, func(a, b Stuck) int { return a.Since.Compare(b.Since) })
	return all
}

// stuck is what does not go on of a group consumer.
func (b *groupConsumer) stuck() (all []Stuck) {
	found := b.sched.slow(maxStuck)
	if u, ok := b.overdue.stuck(); ok {
		found = append(found, u)
	}
	for _, f := range found {
		f.Channel, f.Group = cmp.Or(f.Channel, b.channel.Name), b.group
		if f.err != nil {
			f.Err = errText(f.err) // it is the program's own: not under a mutex
		}
		all = append(all, f.Stuck)
	}
	return all
}

// slowTask is a Stuck whose error is not a text yet.
type slowTask struct {
	Stuck
	err error
}

// slow is what does not go on of a scheduler.
func (s *scheduler) slow(most int) (all []slowTask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running, leaving := slowTask{Stuck: Stuck{Kind: StuckRunning}}, slowTask{Stuck: Stuck{Kind: StuckLeaving}}
	gated := slowTask{Stuck: Stuck{Kind: StuckOutage}, err: s.gate.cause}
	now, held := time.Now(), 0
	for t := s.all.head; t != nil; t = t.nextAll {
		switch t.state {
		case itemHeld:
			if held++; held > most {
				continue
			}
			n := 1
			if t.lane != nil {
				n = t.lane.n + t.lane.aside
			}
			all = append(all, slowTask{Stuck{Kind: StuckHeld, Key: t.in.Message.Key, Count: n, Attempt: t.in.Attempt, Since: t.since, Next: t.due}, t.err})
		case itemGated:
			gated.add(t, t.since)
		case itemRunning:
			if t.ticks > 1 {
				running.add(t, now.Add(-time.Duration(t.ticks-1)*trimAfter))
			}
		}
		if t.exit != nil {
			leaving.add(t, t.since)
		}
	}
	for _, g := range []slowTask{gated, running, leaving} {
		if g.Count > 0 {
			all = append(all, g)
		}
	}
	return all
}

// add counts one that is so since then.
func (g *slowTask) add(t *item, since time.Time) {
	if g.Count++; g.Since.IsZero() || since.Before(g.Since) {
		g.Since = since
		if g.Kind == StuckRunning {
			g.Key = t.in.Message.Key
		}
	}
}

// tick is called at fixed intervals, and notes which handlers are running. A handler
// that n ticks have found running has run for n-1 intervals or more.
func (s *scheduler) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := s.all.head; t != nil; t = t.nextAll {
		if t.state == itemRunning {
			t.ticks++
		}
	}
}

// gauges are how many messages are in hand, and how many of them wait for another
// attempt, for handlers that cannot begin, or behind one that does.
func (s *scheduler) gauges() (inHand, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.blocked + s.aside
}

// stuck tells of an outage.
func (b *broker) stuck() (Stuck, bool) {
	b.mu.Lock()
	since, n, err := b.since, len(b.down), b.err
	b.mu.Unlock()
	if n == 0 {
		return Stuck{}, false
	}
	s := Stuck{Kind: StuckOutage, Count: n, Since: since}
	if err != nil {
		s.Err = errText(err)
	}
	return s, true
}

// stuckText is what a person can do about letters that the broker does not take.
func (s *Service) stuckText(kind driver.Kind, channel string) string {
	switch {
	case kind == driver.Denied:
		return "give the service the right to send to channel " + channel
	case channel == DeadLetterChannel(s.name):
		return "if it is full, dovetail dead list --service " + s.name + " shows what is in it: requeue or discard that, or raise the channel's bound"
	}
	return "it is tried again"
}
