package kafkabus

import (
	"context"
	"maps"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

// Channels lists the channels that were provisioned through Dovetail, with their
// groups. A group's backlog is its lag: what is in hand counts until it is
// settled, and how much of it is the server does not know.
func (c *Conn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if err := c.reg.sync(ctx); err != nil {
		return nil, err
	}
	c.reg.mu.Lock()
	entries := maps.Clone(c.reg.channels)
	c.reg.mu.Unlock()
	names := slices.Sorted(maps.Keys(entries))
	if len(names) == 0 {
		return nil, nil
	}
	found, err := c.describe(ctx, names...)
	if err != nil {
		return nil, err
	}
	var infos []driver.ChannelInfo
	for _, name := range names {
		t, e := found[name], entries[name]
		if t == nil {
			continue // deleted by other means
		}
		info, err := c.channelInfo(ctx, t, driver.Channel{Name: name, Kind: e.kind(), Partitions: len(t.leaders), Transient: e.Transient})
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (c *Conn) channelInfo(ctx context.Context, t *topic, ch driver.Channel) (driver.ChannelInfo, error) {
	info := driver.ChannelInfo{Channel: ch}
	b, err := c.bounds(ctx, t)
	if err != nil {
		return info, err
	}
	for p := range b.end {
		info.Messages += max(0, b.end[p]-b.start[p])
	}
	groups := c.reg.groupsOf(ch.Name, t.id)
	slices.Sort(groups)
	for _, name := range groups {
		far, err := c.progress(ctx, t, name)
		if err != nil {
			return info, err
		}
		g := driver.GroupInfo{Name: name, Pending: -1}
		for p := range far {
			g.Backlog += max(0, b.end[p]-max(b.start[p], far[p].at))
			for _, r := range far[p].skip {
				g.Backlog -= r.to - r.from
			}
		}
		info.Groups = append(info.Groups, g)
	}
	if ch.Kind == driver.PointToPoint && len(info.Groups) == 1 {
		info.Messages = info.Groups[0].Backlog
	}
	return info, nil
}
