package filebus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dovetail-go/dovetail/driver"
)

// Channels tells what the directory holds, sorted by name. Messages of a
// publish–subscribe channel are those that some group has not settled. Messages
// that are not due yet are not counted.
func (c *Conn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.ops.Done()
	names, err := listDir(filepath.Join(c.dir, "channels"))
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", explain(err))
	}
	var infos []driver.ChannelInfo
	for _, name := range names {
		ch, err := c.present(ctx, name)
		if errors.Is(err, driver.ErrNotFound) {
			continue // half made, or being removed
		}
		if err != nil {
			return nil, fmt.Errorf("list channels: %w", err)
		}
		info, err := ch.info()
		if err != nil {
			return nil, fmt.Errorf("list channel %s: %w", name, explain(err))
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// present returns an open channel that is still there.
func (c *Conn) present(ctx context.Context, name string) (*channel, error) {
	ch, err := c.channel(ctx, name)
	if err == nil && ch.gone() {
		c.forget(ch)
		ch, err = c.channel(ctx, name)
	}
	return ch, err
}

func (ch *channel) info() (driver.ChannelInfo, error) {
	info := driver.ChannelInfo{Channel: driver.Channel{
		Name: ch.meta.Name, Kind: ch.meta.kind(), Partitions: ch.meta.Partitions, Transient: ch.meta.Transient}}
	m, err := newMarkReader(ch.log.file, ch.meta.Partitions).read()
	if err != nil {
		return info, err
	}
	gs, err := ch.groups()
	if err != nil {
		return info, err
	}
	for _, g := range gs {
		backlog, pending, err := ch.waiting(g, m, nil)
		if err != nil {
			return info, err
		}
		info.Groups = append(info.Groups, driver.GroupInfo{Name: g.meta.groupName(), Backlog: backlog, Pending: pending})
		info.Messages = max(info.Messages, backlog+pending)
	}
	if len(gs) == 0 && ch.meta.kind() == driver.PointToPoint {
		info.Messages, err = ch.log.atRest(m)
	}
	return info, err
}

// waiting counts what a group has not been handed, and what it was handed and
// has not settled. own tells of partitions that the caller owns, with how many
// are in hand; it may be nil.
func (ch *channel) waiting(g group, m *mark, own func(p int) (c cursor, inHand int, ok bool)) (backlog, pending int64, err error) {
	count := func(p int, c cursor, inHand int) {
		if m.counts[p] > c.taken {
			backlog += int64(m.counts[p] - c.taken)
		}
		backlog += int64(len(c.open) - inHand)
		pending += int64(inHand)
	}
	err = ch.eachCursor(g, func(p int, c cursor) {
		if own != nil {
			if mine, inHand, ok := own(p); ok {
				count(p, mine, inHand)
				return
			}
		}
		count(p, c, len(c.open))
	})
	return backlog, pending, err
}

// RemoveChannel deletes a channel with its groups and messages. Its receivers
// get driver.ErrNotFound.
func (c *Conn) RemoveChannel(ctx context.Context, channel string) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.ops.Done()
	ch, err := c.present(ctx, channel)
	if err != nil {
		return err
	}
	err = c.locked(ctx, func() error {
		// Whoever appends finishes first, or finds the channel gone.
		if err := ch.log.acquire(ctx); err != nil {
			return err
		}
		err := ch.log.die()
		if err == nil {
			err = c.discard(ch.dir)
		}
		return errors.Join(err, ch.log.release())
	})
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("remove channel %s: %w", channel, explain(err))
	}
	c.forget(ch)
	return nil
}

// RemoveGroup deletes a group. Its receivers get driver.ErrNotFound.
func (c *Conn) RemoveGroup(ctx context.Context, channel, name string) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.ops.Done()
	ch, err := c.present(ctx, channel)
	if err != nil {
		return err
	}
	gs, err := ch.groups()
	if err != nil {
		return fmt.Errorf("remove group %s of channel %s: %w", name, channel, explain(err))
	}
	for _, g := range gs {
		if g.meta.groupName() != name {
			continue
		}
		err := c.locked(ctx, func() error {
			if _, err := os.Stat(g.dir); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return c.discard(g.dir)
		})
		if err != nil {
			return fmt.Errorf("remove group %s of channel %s: %w", name, channel, explain(err))
		}
		ch.retain()
		return nil
	}
	return fmt.Errorf("remove group %s of channel %s: %w", name, channel, driver.ErrNotFound)
}
