package kafkabus

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The registry is what topologyTopic says: a channel's kind, and where each
// group begins. It is read to its end before it is believed, and of two who
// write at once the first to be in the topic has it.
type registry struct {
	c *Conn

	syncs atomic.Uint64 // how many began

	mu       sync.Mutex
	synced   uint64 // the last of syncs that succeeded
	topic    *topic
	next     int64
	channels map[string]channelEntry
	groups   map[string]groupEntry // by groupID
}

type channelEntry struct {
	Kind      string `json:"kind"`
	Transient bool   `json:"transient,omitempty"`
}

// A groupEntry holds for the topic with that id alone: one that was deleted and
// made again is another.
type groupEntry struct {
	Topic     string  `json:"topic"`
	Positions []int64 `json:"positions"` // by partition: where the group begins
}

const (
	channelKey = "channel/"
	groupKey   = "group/"
)

func (e channelEntry) kind() driver.ChannelKind {
	if e.Kind == driver.PublishSubscribe.String() {
		return driver.PublishSubscribe
	}
	return driver.PointToPoint
}

func idText(id kadm.TopicID) string { return hex.EncodeToString(id[:]) }

// sync reads what was added. A registry that does not exist is empty. Of those who
// call it at once, one reads for all.
func (r *registry) sync(ctx context.Context) error {
	came := r.syncs.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.synced > came {
		return nil // by one that began after we came
	}
	turn := r.syncs.Add(1)
	err := r.catchUp(ctx)
	if err == nil {
		r.synced = turn
	}
	return err
}

func (r *registry) catchUp(ctx context.Context) error {
	found, err := r.c.describe(ctx, topologyTopic)
	if err != nil {
		return err
	}
	t := found[topologyTopic]
	if t == nil || r.topic == nil || t.id != r.topic.id {
		r.next, r.channels, r.groups = 0, map[string]channelEntry{}, map[string]groupEntry{}
	}
	if r.topic = t; t == nil {
		return nil
	}
	ends, err := r.c.ends(ctx, t)
	if err != nil {
		return err
	}
	for r.next < ends[0] {
		records, next, err := r.c.read(ctx, t, 0, r.next)
		if errors.Is(err, driver.ErrPositionLost) {
			// Somebody has deleted its beginning: what is left begins later.
			b, berr := r.c.bounds(ctx, t)
			if berr != nil || b.start[0] <= r.next {
				return errors.Join(err, berr)
			}
			r.next = b.start[0]
			continue
		}
		if err != nil {
			return err
		}
		if next <= r.next {
			return fmt.Errorf("kafkabus: topic %s: %w: nothing to read at %d, and it ends at %d", topologyTopic, driver.ErrRetryable, r.next, ends[0])
		}
		for _, rec := range records {
			r.apply(rec)
		}
		r.next = next
	}
	return nil
}

func (r *registry) apply(rec *kgo.Record) {
	key := string(rec.Key)
	if name, ok := strings.CutPrefix(key, channelKey); ok {
		var e channelEntry
		if _, known := r.channels[name]; rec.Value == nil {
			delete(r.channels, name)
		} else if json.Unmarshal(rec.Value, &e) == nil && !known {
			r.channels[name] = e
		}
	}
	if id, ok := strings.CutPrefix(key, groupKey); ok {
		var e groupEntry
		if have, known := r.groups[id]; rec.Value == nil {
			delete(r.groups, id)
		} else if json.Unmarshal(rec.Value, &e) == nil && (!known || have.Topic != e.Topic) {
			r.groups[id] = e
		}
	}
}

// put writes entries by key, nil to take one out, and reads to the end.
func (r *registry) put(ctx context.Context, entries map[string]any) error {
	if len(entries) == 0 {
		return nil
	}
	var records []*kgo.Record
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		rec := &kgo.Record{Topic: topologyTopic, Key: []byte(key)}
		if entry := entries[key]; entry != nil {
			rec.Value, _ = json.Marshal(entry) // numbers and strings always encode
		}
		records = append(records, rec)
	}
	if err := r.c.produce(ctx, records...); err != nil {
		return r.c.sendError(topologyTopic, err)
	}
	return r.sync(ctx)
}

func (r *registry) channel(name string) (channelEntry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.channels[name]
	return e, ok
}

// group returns the entry of a group for the topic with that id.
func (r *registry) group(group, channel string, id kadm.TopicID) (groupEntry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.groups[groupID(group, channel)]
	return e, ok && e.Topic == idText(id)
}

// groupsOf returns the names of a channel's groups.
func (r *registry) groupsOf(channel string, id kadm.TopicID) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for key, e := range r.groups {
		if name, ok := strings.CutSuffix(key, "@"+channel); ok && e.Topic == idText(id) {
			names = append(names, name)
		}
	}
	return names
}
