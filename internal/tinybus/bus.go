// Package tinybus is the smallest transport that passes the conformance suite:
// the example of docs/writing-a-transport.md. It carries messages within one
// process, keeps no order, and is not meant to be used; package membus is.
package tinybus

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A Bus is the engine: what a broker is to other transports.
type Bus struct {
	mu       sync.Mutex
	channels map[string]*channel
	sent     uint64 // messages so far, for their order
}

// New returns a bus without channels.
func New() *Bus { return &Bus{channels: map[string]*channel{}} }

type channel struct {
	spec   driver.Channel
	groups map[string]*group
	early  []item // point-to-point: sent before the first group came
}

type group struct {
	queue   []item        // not handed out, oldest first
	changed chan struct{} // closed and replaced when the queue grows
}

// An item is a message in one group's queue.
type item struct {
	seq uint64
	msg *driver.Message
}

func newGroup() *group { return &group{changed: make(chan struct{})} }

// put adds items, each in its place: what comes back stands before what has
// not been handed out yet.
func (g *group) put(items ...item) {
	for _, it := range items {
		at, _ := slices.BinarySearchFunc(g.queue, it.seq, func(q item, seq uint64) int { return cmp.Compare(q.seq, seq) })
		g.queue = slices.Insert(g.queue, at, it)
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// provision makes a channel exist, or finds it.
func (b *Bus) provision(spec driver.Channel) (*channel, error) {
	if err := driver.ValidName(spec.Name); err != nil {
		return nil, fmt.Errorf("provision channel: %w", err)
	}
	ch := b.channels[spec.Name]
	if ch == nil {
		ch = &channel{spec: spec, groups: map[string]*group{}}
		b.channels[spec.Name] = ch
	}
	if ch.spec.Kind != spec.Kind {
		return nil, fmt.Errorf("provision channel %s as %s: it is %s: %w", spec.Name, spec.Kind, ch.spec.Kind, driver.ErrConflict)
	}
	return ch, nil
}

// subscribe makes a group exist.
func (ch *channel) subscribe(name string) error {
	if ch.groups[name] != nil {
		return nil
	}
	if ch.spec.Kind == driver.PointToPoint && len(ch.groups) > 0 {
		return fmt.Errorf("provision group %s: channel %s is point-to-point and has one: %w", name, ch.spec.Name, driver.ErrConflict)
	}
	g := newGroup()
	g.put(ch.early...)
	ch.groups[name], ch.early = g, nil
	return nil
}

// send puts a copy of the message into every group's queue.
func (b *Bus) send(m *driver.Message) error {
	ch := b.channels[m.Channel]
	if ch == nil {
		return fmt.Errorf("channel %s: %w", m.Channel, driver.ErrNotFound)
	}
	b.sent++
	it := item{b.sent, driver.Foreign(m.Clone())}
	if ch.spec.Kind == driver.PointToPoint && len(ch.groups) == 0 {
		ch.early = append(ch.early, it)
	}
	for _, g := range ch.groups {
		g.put(it)
	}
	return nil
}
