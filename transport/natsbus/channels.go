package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// A channelState is what a connection knows of a channel. It does not change
// but for batches.
type channelState struct {
	name      string
	stream    string
	kind      driver.ChannelKind
	transient bool
	dedupe    bool
	owners    bool        // its partitions have one owner at a time in each group
	subjects  []string    // by partition
	batches   atomic.Bool // the stream takes fast batches (nats-server 2.14)
}

// maxKnownChannels bounds the cache: a service that answers many callers meets
// a reply channel for each.
const maxKnownChannels = 10_000

type channelCache struct {
	mu     sync.RWMutex
	states map[string]*channelState
}

func (c *channelCache) get(name string) *channelState {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.states[name]
}

func (c *channelCache) put(s *channelState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.states == nil || len(c.states) >= maxKnownChannels {
		c.states = map[string]*channelState{} // rebuilt as channels are met
	}
	c.states[s.name] = s
}

// drop forgets s, unless it was replaced meanwhile; nil stands for any.
func (c *channelCache) drop(name string, s *channelState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil || c.states[name] == s {
		delete(c.states, name)
	}
}

func transientState(name string) *channelState {
	return &channelState{name: name, transient: true, subjects: []string{transientSubject(name)}}
}

// stateOf reads a channel out of its stream's configuration.
func stateOf(name string, cfg *jetstream.StreamConfig) *channelState {
	s := &channelState{name: name, stream: cfg.Name}
	if cfg.Retention != jetstream.WorkQueuePolicy {
		s.kind, s.dedupe = driver.PublishSubscribe, true
	}
	s.batches.Store(cfg.AllowBatchPublish)
	n := partitionsOf(cfg)
	s.owners = ownersOf(cfg)
	s.subjects = make([]string, n)
	for k := range n {
		s.subjects[k] = partitionSubject(name, k)
	}
	return s
}

// consumers is how many consumers each group has.
func (s *channelState) consumers() int {
	if s.owners {
		return len(s.subjects)
	}
	return 1
}

// consumer is the name of a group's consumer, of partition k where each has its
// own.
func (s *channelState) consumer(group string, k int) string {
	if s.owners {
		return partName(group, k)
	}
	return objectName(group)
}

func ownersOf(cfg *jetstream.StreamConfig) bool { return cfg.Metadata[metaOwners] != "" }

func partitionsOf(cfg *jetstream.StreamConfig) int {
	n, err := strconv.Atoi(cfg.Metadata[metaPartitions])
	if err != nil || n < 1 || n > maxPartitions {
		return 1
	}
	return n
}

// channel finds a channel, asking the server the first time. A name that has no
// stream may be a transient channel that others provisioned: the answer is
// ErrNotFound, and the caller tries that.
func (c *Conn) channel(ctx context.Context, name string) (*channelState, error) {
	if s := c.chans.get(name); s != nil {
		return s, nil
	}
	if err := driver.ValidName(name); err != nil {
		return nil, fmt.Errorf("natsbus: channel %w", err)
	}
	ctx, why, done := c.api(ctx, objectName(name))
	defer done()
	stream, err := c.js.Stream(ctx, objectName(name))
	if err != nil {
		return nil, c.streamError(name, why(err))
	}
	cfg := stream.CachedInfo().Config
	s := stateOf(name, &cfg)
	c.chans.put(s)
	return s, nil
}

func (c *Conn) streamError(name string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("natsbus: channel %s: %w: provision it before sending or receiving", name, driver.ErrNotFound)
	}
	return translate("look up channel "+name, err)
}
