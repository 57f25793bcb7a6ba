package kafkabus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A topic may have been made by somebody else, or by the server's own defaults.
// Its settings are compared with what Dovetail promises: what loses messages is
// refused, and what may lose some is logged.

// The settings that are looked at.
const (
	cleanupPolicy  = "cleanup.policy"
	retentionMs    = "retention.ms"
	retentionBytes = "retention.bytes"
	maxBatch       = "max.message.bytes"
	minInSync      = "min.insync.replicas"
	uncleanElect   = "unclean.leader.election.enable"
)

const (
	leastRetention  = time.Hour      // below, a restart that takes a little longer loses messages
	shortRetention  = 24 * time.Hour // below, a night does
	leastKeptOfLogs = 32 << 20       // bytes: what one instance may have in hand by default
)

// settings are those of one topic.
type settings map[string]string

func (s settings) policy(name string) bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(s[cleanupPolicy], " ", ""), ","), name)
}

// limit is a number that bounds something, or ok is false for -1, which does not.
func (s settings) limit(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(s[name], 10, 64)
	return n, err == nil && n >= 0
}

// judge says which settings of a topic lose messages of its channel, and which may.
func (o *Options) judge(t *topic, ch driver.Channel, s settings) (loses, may []string) {
	lose := func(format string, args ...any) { loses = append(loses, fmt.Sprintf(format, args...)) }
	warn := func(format string, args ...any) { may = append(may, fmt.Sprintf(format, args...)) }
	if isOurs(t.name) {
		if !s.policy("compact") || s.policy("delete") {
			lose("%s is %q and its records must stay: set %[1]s=compact", cleanupPolicy, s[cleanupPolicy])
		}
		return loses, may
	}
	if s.policy("compact") && !isDead(t.name) {
		text := "%s is %q, which keeps of several messages with one key the last: set %[1]s=delete"
		if ch.Kind == driver.PublishSubscribe && !isKept(t.name) {
			warn(text, cleanupPolicy, s[cleanupPolicy]) // a log of changes of somebody else's may be meant so
		} else {
			lose(text, cleanupPolicy, s[cleanupPolicy])
		}
	}
	if s.policy("delete") {
		o.judgeRetention(t, ch, s, lose, warn)
	}
	if n, ok := s.limit(maxBatch); ok && n < int64(o.batchBytes()) {
		text := "it takes batches of %d bytes: raise its " + maxBatch + " to %d, or lower max-bytes"
		if o.MaxBytes > defaultMaxBytes {
			lose(text, n, o.batchBytes())
		} else {
			warn(text, n, o.batchBytes())
		}
	}
	if ch.Transient {
		return loses, may
	}
	if s[uncleanElect] == "true" {
		warn("%s is true: a broker that lacks confirmed messages may become leader; set %[1]s=false", uncleanElect)
	}
	if n, ok := s.limit(minInSync); ok && n < 2 && t.replicas > 1 {
		warn("%s is %d: a message is confirmed when one of %d copies has it; set %[1]s=2", minInSync, n, t.replicas)
	}
	return loses, may
}

func (o *Options) judgeRetention(t *topic, ch driver.Channel, s settings, lose, warn func(string, ...any)) {
	ms, timed := s.limit(retentionMs)
	bytes, sized := s.limit(retentionBytes)
	if isKept(t.name) {
		if timed {
			lose("%s is %d and what is in it stays until somebody removes it: set %[1]s=-1", retentionMs, ms)
		}
		if sized {
			lose("%s is %d and what is in it stays until somebody removes it: set %[1]s=-1", retentionBytes, bytes)
		}
		return
	}
	if ch.Transient {
		return
	}
	kept := time.Duration(min(ms, int64(shortRetention/time.Millisecond))) * time.Millisecond
	switch asked := o.Retention > 0 && kept >= min(o.Retention, shortRetention); {
	case !timed || asked:
	case kept < leastRetention:
		lose("%s is %d: messages are deleted after %v whether or not they were handled; set %[1]s=%[4]d or more, or say with the parameter retention that it is meant", retentionMs, ms, kept, shortRetention.Milliseconds())
	case kept < shortRetention:
		warn("%s is %d: messages are deleted after %v whether or not they were handled; set %[1]s=%[4]d or more", retentionMs, ms, kept, shortRetention.Milliseconds())
	}
	if sized {
		text := "%s is %d: older messages are deleted beyond it whether or not they were handled; set %[1]s=-1"
		if bytes < leastKeptOfLogs {
			lose(text, retentionBytes, bytes)
		} else {
			warn(text, retentionBytes, bytes)
		}
	}
}

// checkSettings compares topics with what their channels need, each once for a
// Conn.
func (c *Conn) checkSettings(ctx context.Context, found map[string]*topic, channels map[string]driver.Channel) error {
	var names []string
	c.topicMu.Lock()
	for name, t := range found {
		if !c.checked[t.id] {
			names = append(names, name)
		}
	}
	c.topicMu.Unlock()
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	all, err := c.describeSettings(ctx, names)
	if denied := driver.Classify(err) == driver.Denied; denied || driver.Classify(err) == driver.Unsupported {
		c.opts.Logger.Warn("kafkabus: the settings of topics cannot be looked at: nobody knows whether they lose messages; allow DescribeConfigs", "error", err)
		all = nil
	} else if err != nil {
		return err
	}
	warnings := map[string][]string{}
	for _, name := range names {
		loses, may := []string(nil), []string(nil)
		if s := all[name]; s != nil {
			loses, may = c.opts.judge(found[name], channels[name], s)
		}
		if len(loses) > 0 {
			return fmt.Errorf("kafkabus: topic %s %w: %s", name, driver.ErrConflict, strings.Join(loses, "; "))
		}
		for _, text := range may {
			warnings[text] = append(warnings[text], name)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(warnings)) {
		c.opts.Logger.Warn("kafkabus: a setting of topics may lose messages", "setting", text, "topics", warnings[text])
	}
	c.topicMu.Lock()
	defer c.topicMu.Unlock()
	for _, name := range names {
		c.checked[found[name].id] = true
	}
	return nil
}

// describeSettings asks for the settings of topics.
func (c *Conn) describeSettings(ctx context.Context, names []string) (map[string]settings, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		r.ConfigNames = []string{cleanupPolicy, retentionMs, retentionBytes, maxBatch, minInSync, uncleanElect}
		req.Resources = append(req.Resources, r)
	}
	all := make(map[string]settings, len(names))
	err := insist(ctx, func() error { // a broker may not know yet of a topic that was made by another
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return fmt.Errorf("topic %s: %w", r.ResourceName, err)
			}
			s := settings{}
			for _, kv := range r.Configs {
				if kv.Value != nil {
					s[kv.Name] = *kv.Value
				}
			}
			all[r.ResourceName] = s
		}
		return nil
	})
	return all, translate("ask for the settings of topics", err)
}
