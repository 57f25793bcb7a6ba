package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// provisionGroups makes sure that groups have a place to begin, in the registry for
// good and as committed offsets for the server's own tools.
func (c *Conn) provisionGroups(ctx context.Context, groups []driver.Subscription, found map[string]*topic) error {
	doing := func(s driver.Subscription) string {
		return fmt.Sprintf("provision group %s of channel %s", s.Group, s.Channel.Name)
	}
	if err := c.oneGroupEach(groups, found); err != nil {
		return err
	}
	positions := make([][]int64, len(groups))
	err := sideBySide(len(groups), func(i int) (err error) {
		s := groups[i]
		t := found[s.Channel.Name]
		if _, known := c.reg.group(s.Group, t.name, t.id); !known {
			// Offsets that were committed by whatever was here before come first.
			if positions[i], err = c.beginning(ctx, s, t); err != nil {
				return fmt.Errorf("kafkabus: %s: %w", doing(s), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	entries := map[string]any{}
	for i, s := range groups {
		if t := found[s.Channel.Name]; positions[i] != nil {
			entries[groupKey+groupID(s.Group, t.name)] = groupEntry{idText(t.id), positions[i]}
		}
	}
	if err := c.reg.put(ctx, entries); err != nil {
		return fmt.Errorf("kafkabus: provision groups: %w", err)
	}
	for _, s := range groups {
		t := found[s.Channel.Name]
		key := groupKey + groupID(s.Group, t.name)
		if _, ours := entries[key]; ours && s.Channel.Kind == driver.PointToPoint && len(c.reg.groupsOf(t.name, t.id)) > 1 {
			err := c.reg.put(ctx, map[string]any{key: nil})
			return errors.Join(fmt.Errorf("kafkabus: %s: %w: another group of this point-to-point channel is being provisioned", doing(s), driver.ErrConflict), err)
		}
	}
	return sideBySide(len(groups), func(i int) error {
		s := groups[i]
		t := found[s.Channel.Name]
		entry, known := c.reg.group(s.Group, t.name, t.id)
		if !known {
			return fmt.Errorf("kafkabus: %s: %w: the topic was made again meanwhile", doing(s), driver.ErrRetryable)
		}
		return c.commitBeginning(ctx, doing(s), s, t, entry)
	})
}

// oneGroupEach returns an error where a point-to-point channel would have two.
func (c *Conn) oneGroupEach(groups []driver.Subscription, found map[string]*topic) error {
	first := map[string]string{}
	for _, s := range groups {
		if s.Channel.Kind != driver.PointToPoint {
			continue
		}
		t := found[s.Channel.Name]
		others := c.reg.groupsOf(t.name, t.id)
		if group, ok := first[t.name]; ok {
			others = append(others, group)
		}
		first[t.name] = s.Group
		for _, other := range others {
			if other != s.Group {
				return fmt.Errorf("kafkabus: provision group %s of channel %s: %w: a point-to-point channel has one group, and %s has it: use its name; or remove that group (dovetail topology remove %[2]s --group %[4]s), and the new one is given all that is still there, handled or not; or remove the channel and provision it as publish-subscribe",
					s.Group, s.Channel.Name, driver.ErrConflict, other)
			}
		}
	}
	return nil
}

// sideBySide calls f for 0 to n-1, some at once, and returns the first error of
// those in order.
func sideBySide(n int, f func(i int) error) error {
	const atOnce = 16
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// beginning is where a new group starts: at the earliest of a point-to-point
// channel, at the end of another.
func (c *Conn) beginning(ctx context.Context, s driver.Subscription, t *topic) ([]int64, error) {
	if s.Channel.Kind == driver.PublishSubscribe {
		return c.ends(ctx, t)
	}
	b, err := c.bounds(ctx, t)
	return b.start, err
}

// commitBeginning commits the beginning for partitions that have no offset.
func (c *Conn) commitBeginning(ctx context.Context, doing string, s driver.Subscription, t *topic, entry groupEntry) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	id := groupID(s.Group, t.name)
	committed, err := c.committed(ctx, id, t)
	if err != nil {
		return translate(doing, err)
	}
	missing := kadm.Offsets{}
	for p, at := range entry.Positions {
		have, ok := committed.Lookup(t.name, int32(p))
		if ok && have.Err == nil && have.At >= 0 || p >= len(t.leaders) {
			continue
		}
		missing.Add(kadm.Offset{Topic: t.name, TopicID: t.id, Partition: int32(p), At: at, LeaderEpoch: -1})
	}
	if len(missing) == 0 {
		return nil
	}
	err = insist(ctx, func() error { return c.adm.CommitAllOffsets(ctx, id, missing) })
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) {
		return nil // somebody receives for it already, from the same beginning
	}
	return translate(doing, err)
}
