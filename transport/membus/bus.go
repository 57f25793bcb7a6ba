package membus

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A Bus is the engine: the channels and what is in them. Its connections see
// each other's messages. It holds memory only; there is nothing to close.
type Bus struct {
	opts  Options
	name  string // in named
	users int    // connections by name; guarded by namedMu

	mu       sync.RWMutex
	channels map[string]*channel
}

// New returns an empty bus. Options that contradict each other are an error.
func New(o Options) (*Bus, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Bus{opts: o, channels: map[string]*channel{}}, nil
}

// Connect returns a new connection to b, which the caller closes.
func (b *Bus) Connect() *Conn {
	if b.name != "" {
		namedMu.Lock()
		b.users++
		namedMu.Unlock()
	}
	return b.connect()
}

func (b *Bus) connect() *Conn {
	return &Conn{bus: b, done: make(chan struct{}), receivers: map[*receiver]struct{}{}}
}

func (b *Bus) lookup(name string) *channel {
	b.mu.RLock()
	ch := b.channels[name]
	b.mu.RUnlock()
	return ch
}

// provision checks everything before it makes anything.
func (b *Bus) provision(channels []driver.Channel, subs []driver.Subscription) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	wanted := make([]driver.Channel, 0, len(channels)+len(subs))
	wanted = append(wanted, channels...)
	for _, s := range subs {
		// A subscription names its channel; one that nobody listed comes with it.
		if b.channels[s.Channel.Name] == nil {
			wanted = append(wanted, s.Channel)
		}
	}
	made := map[string]driver.Channel{}
	for _, c := range wanted {
		if err := driver.ValidName(c.Name); err != nil {
			return fmt.Errorf("membus: provision channel: %w", err)
		}
		if c.Partitions < 0 || c.Partitions > maxPartitions {
			return fmt.Errorf("membus: provision channel %s: %d partitions: want 0 for the default, or at most %d: %w", c.Name, c.Partitions, maxPartitions, driver.ErrUnsupported)
		}
		have, ok := made[c.Name]
		if ch := b.channels[c.Name]; ch != nil {
			have, ok = ch.spec, true
		}
		if !ok {
			made[c.Name] = c
			continue
		}
		if have.Kind != c.Kind || have.Transient != c.Transient || c.Partitions != 0 && have.Partitions != 0 && c.Partitions != have.Partitions {
			return fmt.Errorf("membus: channel %s is %s, transient %t, with %d partitions; wanted %s, transient %t, with %d: %w; remove it first or give it another name",
				c.Name, have.Kind, have.Transient, have.Partitions, c.Kind, c.Transient, c.Partitions, driver.ErrConflict)
		}
	}
	sole := map[string]string{} // the group of a point-to-point channel
	for _, s := range subs {
		if s.Broadcast {
			continue // comes into being with its receiver
		}
		if err := driver.ValidName(s.Group); err != nil {
			return fmt.Errorf("membus: provision group on channel %s: %w", s.Channel.Name, err)
		}
		kind, group := made[s.Channel.Name].Kind, sole[s.Channel.Name]
		if ch := b.channels[s.Channel.Name]; ch != nil {
			kind = ch.spec.Kind
			if group == "" {
				group = ch.soleGroup()
			}
		}
		if kind == driver.PointToPoint {
			if group != "" && group != s.Group {
				return fmt.Errorf("membus: channel %s is point-to-point and has group %s; %s would be a second: %w; make the channel publish-subscribe, or remove the old group",
					s.Channel.Name, group, s.Group, driver.ErrConflict)
			}
			sole[s.Channel.Name] = s.Group
		}
	}
	for _, c := range wanted {
		if b.channels[c.Name] == nil {
			if c.Partitions == 0 {
				c.Partitions = b.opts.Partitions
			}
			b.channels[c.Name] = newChannel(b, c)
		}
	}
	for _, s := range subs {
		if !s.Broadcast {
			b.channels[s.Channel.Name].addGroup(s.Group)
		}
	}
	return nil
}

// forget loses every channel, as an engine does whose disk was swapped.
func (b *Bus) forget() {
	b.mu.Lock()
	old := b.channels
	b.channels = map[string]*channel{}
	b.mu.Unlock()
	for _, ch := range old {
		ch.remove()
	}
}

// removeGroupsOf removes the broadcast groups of a connection that was closed.
func (b *Bus) removeGroupsOf(c *Conn) {
	b.mu.RLock()
	channels := slices.Collect(maps.Values(b.channels))
	b.mu.RUnlock()
	for _, ch := range channels {
		ch.mu.Lock()
		for _, g := range slices.Clone(ch.groups) {
			if g.owner == c {
				ch.removeGroup(g)
			}
		}
		ch.mu.Unlock()
	}
}

func notProvisioned(channel string) error {
	return fmt.Errorf("membus: channel %s: %w", channel, driver.ErrNotFound)
}
