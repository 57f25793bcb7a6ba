package membus

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/dovetail-go/dovetail/driver"
)

// Browse implements driver.Browser. What is in somebody's hands is shown too.
func (c *Conn) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	if err := c.usable(ctx, "browse"); err != nil {
		return nil, err
	}
	ch := c.bus.lookup(channel)
	if ch == nil {
		return nil, fmt.Errorf("membus: browse: %w", notProvisioned(channel))
	}
	var from uint64
	if after != "" {
		var err error
		if from, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, fmt.Errorf("membus: browse %s after %q: want a position that Browse returned", channel, after)
		}
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	var page []driver.StoredMessage
	rest := ch.log[ch.head:]
	for _, m := range rest[sort.Search(len(rest), func(i int) bool { return rest[i].seq > from }):] {
		if len(page) >= max {
			break
		}
		if !m.done() {
			page = append(page, driver.StoredMessage{Position: fmt.Sprintf("%020d", m.seq), Message: m.msg.Clone()})
		}
	}
	return page, nil
}

// Remove implements driver.Browser. A message that is in somebody's hands is
// not taken from there, but does not come again.
func (c *Conn) Remove(ctx context.Context, channel string, positions []string) error {
	if err := c.usable(ctx, "remove"); err != nil {
		return err
	}
	ch := c.bus.lookup(channel)
	if ch == nil {
		return fmt.Errorf("membus: remove: %w", notProvisioned(channel))
	}
	seqs := make([]uint64, len(positions))
	for i, p := range positions {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return fmt.Errorf("membus: remove from %s: position %q: want one that Browse returned", channel, p)
		}
		seqs[i] = n
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	gone := 0
	rest := ch.log[ch.head:]
	for _, seq := range seqs {
		i := sort.Search(len(rest), func(i int) bool { return rest[i].seq >= seq })
		if i < len(rest) && rest[i].seq == seq && !rest[i].done() {
			rest[i].removed = true
			ch.discount(rest[i])
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	for _, g := range ch.groups {
		g.purge()
	}
	ch.trim()
	return nil
}

// Channels implements driver.Lister, by name. A group's backlog includes what
// is not due yet.
func (c *Conn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	if err := c.usable(ctx, "list channels"); err != nil {
		return nil, err
	}
	c.bus.mu.RLock()
	channels := make([]*channel, 0, len(c.bus.channels))
	for _, ch := range c.bus.channels {
		channels = append(channels, ch)
	}
	c.bus.mu.RUnlock()
	slices.SortFunc(channels, func(a, b *channel) int {
		if a.spec.Name < b.spec.Name {
			return -1
		}
		return 1
	})
	infos := make([]driver.ChannelInfo, len(channels))
	for i, ch := range channels {
		infos[i] = ch.info()
	}
	return infos, nil
}

func (ch *channel) info() driver.ChannelInfo {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	info := driver.ChannelInfo{Channel: ch.spec, Messages: int64(ch.live)}
	for _, g := range ch.groups {
		if g.name == "" {
			continue // the place of a group that is to come
		}
		waiting := g.queued + len(g.later)
		info.Groups = append(info.Groups, driver.GroupInfo{Name: g.name, Backlog: int64(waiting), Pending: int64(g.unsettled() - waiting)})
	}
	return info
}

// RemoveChannel implements driver.Remover. One that is not there is
// driver.ErrNotFound.
func (c *Conn) RemoveChannel(ctx context.Context, channel string) error {
	if err := c.usable(ctx, "remove channel"); err != nil {
		return err
	}
	c.bus.mu.Lock()
	ch := c.bus.channels[channel]
	delete(c.bus.channels, channel)
	c.bus.mu.Unlock()
	if ch == nil {
		return fmt.Errorf("membus: remove: %w", notProvisioned(channel))
	}
	ch.remove()
	return nil
}

// RemoveGroup implements driver.Remover. One that is not there is
// driver.ErrNotFound.
func (c *Conn) RemoveGroup(ctx context.Context, channel, group string) error {
	if err := c.usable(ctx, "remove group"); err != nil {
		return err
	}
	ch := c.bus.lookup(channel)
	if ch == nil {
		return fmt.Errorf("membus: remove group %s: %w", group, notProvisioned(channel))
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	g := ch.group(group)
	if g == nil || group == "" {
		return fmt.Errorf("membus: group %q of channel %s: %w", group, channel, driver.ErrNotFound)
	}
	ch.removeGroup(g)
	return nil
}
