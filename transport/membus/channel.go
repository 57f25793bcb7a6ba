package membus

import (
	"fmt"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A stored message is what the bus keeps of one that was sent. Once it is in a
// channel only refs and removed change, under the channel's mutex. The message
// is the one that was sent: nobody changes it.
type stored struct {
	msg     *driver.Message
	seq     uint64
	size    int
	index   int   // in the batch that it was sent with
	part    int32 // partition; the last one is for messages without a key
	refs    int32 // groups that have not settled it
	removed bool
}

// A channel is one mutex over everything that happens in it: its messages, its
// groups and their receivers.
type channel struct {
	bus  *Bus
	spec driver.Channel // Partitions resolved

	mu     sync.Mutex
	gone   bool
	seq    uint64
	groups []*group

	// log holds the messages at rest by seq, from head on. Those that are done
	// with stay until they reach the head or outnumber the others.
	log   []*stored
	head  int
	live  int
	bytes int

	space chan struct{} // closed when room was made; nil while no sender waits
}

func newChannel(b *Bus, spec driver.Channel) *channel {
	ch := &channel{bus: b, spec: spec}
	if spec.Kind == driver.PointToPoint {
		// The one group is there from the start, so that messages wait in it;
		// the first subscription names it.
		ch.groups = []*group{newGroup(ch, "")}
	}
	return ch
}

// soleGroup returns the name of a point-to-point channel's group, "" while it
// has none.
func (ch *channel) soleGroup() string {
	if ch.spec.Kind != driver.PointToPoint {
		return ""
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.groups[0].name
}

func (ch *channel) addGroup(name string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case ch.spec.Kind == driver.PointToPoint:
		ch.groups[0].name = name
	case ch.group(name) == nil:
		ch.groups = append(ch.groups, newGroup(ch, name))
	}
}

// group returns the group called name, or nil. ch.mu is held.
func (ch *channel) group(name string) *group {
	for _, g := range ch.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// admit puts messages into the channel, as many as there is room for, and
// returns how many, with what to wait on for more room if that is not all.
func (ch *channel) admit(ms []*stored) (n int, space <-chan struct{}, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.gone {
		return 0, nil, notProvisioned(ch.spec.Name)
	}
	for _, g := range ch.groups {
		g.promote() // what became due meanwhile comes before these
	}
	for _, m := range ms {
		if ch.full(m) && (!ch.removeAbsent() || ch.full(m)) {
			if ch.space == nil {
				ch.space = make(chan struct{})
			}
			space = ch.space
			break
		}
		n++
		ch.seq++
		m.seq = ch.seq
		for _, g := range ch.groups {
			if ch.spec.Transient && len(g.receivers) == 0 {
				continue // for those who listen
			}
			m.refs++
			g.enqueue(m)
		}
		if m.refs > 0 {
			ch.record(m)
		}
	}
	for _, g := range ch.groups {
		g.wakePoked()
	}
	return n, space, nil
}

// full reports whether there is no room for m. ch.mu is held.
func (ch *channel) full(m *stored) bool {
	o := &ch.bus.opts
	return ch.live >= o.Messages || ch.live > 0 && ch.bytes+m.size > o.Bytes
}

// removeAbsent removes the broadcast groups without an open receiver, and
// reports whether there were any. ch.mu is held.
func (ch *channel) removeAbsent() (removed bool) {
	for _, g := range slices.Clone(ch.groups) {
		if g.owner != nil && len(g.receivers) == 0 {
			ch.removeGroup(g)
			removed = true
		}
	}
	return removed
}

func (ch *channel) record(m *stored) {
	if len(ch.log) == cap(ch.log) && ch.head > len(ch.log)/2 {
		ch.compact()
	}
	ch.log = append(ch.log, m)
	ch.live++
	ch.bytes += m.size
}

// deref is called when a group is done with m. ch.mu is held.
func (ch *channel) deref(m *stored) {
	if m.refs--; m.refs == 0 && !m.removed {
		ch.discount(m)
		ch.trim()
	}
}

// discount takes m out of the accounts. ch.mu is held.
func (ch *channel) discount(m *stored) {
	ch.live--
	ch.bytes -= m.size
}

// trim lets go of what is done with, as far as that is cheap, and tells senders
// that there is room. ch.mu is held.
func (ch *channel) trim() {
	for ch.head < len(ch.log) && ch.log[ch.head].done() {
		ch.log[ch.head] = nil
		ch.head++
	}
	if ch.head == len(ch.log) {
		ch.log, ch.head = ch.log[:0], 0
		if cap(ch.log) > 1024 {
			ch.log = nil
		}
	} else if held := len(ch.log) - ch.head; held > 2*ch.live+64 {
		ch.compact()
	}
	if ch.space != nil {
		close(ch.space)
		ch.space = nil
	}
}

func (m *stored) done() bool { return m.refs == 0 || m.removed }

// compact closes the gaps in the log. ch.mu is held.
func (ch *channel) compact() {
	kept := ch.log[:0]
	for _, m := range ch.log[ch.head:] {
		if !m.done() {
			kept = append(kept, m)
		}
	}
	clear(ch.log[len(kept):])
	ch.log, ch.head = kept, 0
}

// fullness says why a sender waits, and for whom. ch.mu is not held.
func (ch *channel) fullness() string {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	s := fmt.Sprintf("channel %s is full with %d messages, %d bytes", ch.spec.Name, ch.live, ch.bytes)
	var slow *group
	for _, g := range ch.groups {
		if slow == nil || g.unsettled() > slow.unsettled() {
			slow = g
		}
	}
	switch {
	case slow == nil:
	case slow.name == "":
		s += ", and nobody has subscribed to it"
	default:
		s += fmt.Sprintf(", of which group %s has not settled %d (%d receivers)", slow.name, slow.unsettled(), len(slow.receivers))
	}
	return s
}

// remove ends the channel: whoever waits for it, to send or to receive, is told.
func (ch *channel) remove() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.gone = true
	for _, g := range ch.groups {
		g.end()
	}
	ch.groups = nil
	ch.log, ch.head, ch.live, ch.bytes = nil, 0, 0, 0
	if ch.space != nil {
		close(ch.space)
		ch.space = nil
	}
}

// removeGroup ends a group and lets go of what it held. ch.mu is held.
func (ch *channel) removeGroup(g *group) {
	i := slices.Index(ch.groups, g)
	if i < 0 {
		return
	}
	if ch.spec.Kind == driver.PointToPoint {
		ch.groups[i] = newGroup(ch, "")
	} else {
		ch.groups = slices.Delete(ch.groups, i, i+1)
	}
	g.end()
}
