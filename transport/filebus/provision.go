package filebus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// Provision makes channels and groups exist. A channel of another kind or
// number of partitions, a second group of a point-to-point channel, and a
// durable channel where a transient one is, are driver.ErrConflict. A group of
// a publish–subscribe channel gets what is sent once Provision has returned;
// the group of a point-to-point channel gets everything.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.ops.Done()
	for _, s := range subscriptions {
		if !s.Broadcast {
			if err := driver.ValidName(s.Group); err != nil {
				return fmt.Errorf("group %w", err)
			}
		}
		channels = append(slices.Clip(channels), s.Channel)
	}
	for _, ch := range channels {
		if err := driver.ValidName(ch.Name); err != nil {
			return fmt.Errorf("channel %w", err)
		}
	}
	err := c.locked(ctx, func() error {
		for _, ch := range channels {
			if err := c.provisionChannel(ch); err != nil {
				return fmt.Errorf("provision channel %s: %w", ch.Name, explain(err))
			}
		}
		for _, s := range subscriptions {
			if s.Broadcast {
				continue // they come with their receiver
			}
			if err := c.provisionGroup(ctx, s); err != nil {
				return fmt.Errorf("provision group %s of channel %s: %w", s.Group, s.Channel.Name, explain(err))
			}
		}
		return nil
	})
	return explain(err)
}

func (c *Conn) provisionChannel(want driver.Channel) error {
	if want.Partitions < 0 || want.Partitions > maxPartitions {
		return fmt.Errorf("%d partitions: want at most %d: %w", want.Partitions, maxPartitions, driver.ErrUnsupported)
	}
	dir := c.channelDir(want.Name)
	var have channelMeta
	err := readJSON(filepath.Join(dir, "channel.json"), &have)
	if err == nil && isDead(filepath.Join(dir, "log", "mark")) {
		// Somebody died while removing it.
		if err = c.discard(dir); err == nil {
			err = fs.ErrNotExist
		}
	}
	switch {
	case err == nil:
		switch {
		case have.kind() != want.Kind:
			return fmt.Errorf("%w: it is %s, not %s; rename one of them, or remove the channel", driver.ErrConflict, have.kind(), want.Kind)
		case want.Partitions != 0 && want.Partitions != have.Partitions:
			return fmt.Errorf("%w: it has %d partitions, not %d, and their number is fixed: %s; or declare %d", driver.ErrConflict, have.Partitions, want.Partitions, driver.Repartition(want.Name), have.Partitions)
		case have.Transient && !want.Transient:
			return fmt.Errorf("%w: it is transient; remove the channel first", driver.ErrConflict)
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parts := want.Partitions
	if parts == 0 {
		parts = c.opts.Partitions
	}
	for _, d := range []string{"log", "groups"} {
		if err := makeDirs(filepath.Join(dir, d)); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	step("channel made")
	return writeJSON(filepath.Join(dir, "channel.json"), channelMeta{
		Name: want.Name, Kind: want.Kind.String(), Partitions: parts, Transient: want.Transient})
}

// isDead reports whether a log's mark says that it is being removed.
func isDead(mark string) bool {
	b, err := os.ReadFile(mark)
	return err == nil && strings.HasPrefix(string(b), deadMark)
}

func (c *Conn) provisionGroup(ctx context.Context, s driver.Subscription) error {
	ch, err := c.channel(ctx, s.Channel.Name)
	if err != nil {
		return err
	}
	if ch.gone() {
		c.forget(ch)
		if ch, err = c.channel(ctx, s.Channel.Name); err != nil {
			return err
		}
	}
	have, err := ch.groups()
	if err != nil {
		return err
	}
	for _, g := range have {
		if g.meta.Broadcast {
			continue
		}
		if g.meta.Name == s.Group {
			return nil
		}
		if ch.meta.kind() == driver.PointToPoint {
			return fmt.Errorf("%w: a point-to-point channel has one group, and this one has %s: use its name; or remove that group (dovetail topology remove %s --group %[2]s), and the new one is given all that is still there, handled or not; or remove the channel and provision it as publish-subscribe",
				driver.ErrConflict, g.meta.Name, ch.meta.Name)
		}
	}
	return ch.makeGroup(ctx, s, nil)
}

// makeGroup makes a group's directory; it exists from the moment its group.json
// does. For a broadcast group join is called before that.
func (ch *channel) makeGroup(ctx context.Context, s driver.Subscription, join func(g group) error) error {
	g := group{dir: filepath.Join(ch.dir, "groups", groupDirName(s)), meta: groupMeta{Name: s.Group, Broadcast: s.Broadcast}}
	if s.Broadcast {
		g.meta.Instance = s.Instance
	}
	for _, d := range []string{"owners", "members"} {
		if err := makeDirs(filepath.Join(g.dir, d)); err != nil {
			return err
		}
	}
	// Without group.json nothing here counts: it may be left over from a crash.
	if err := makeCursors(g.cursors(), ch.meta.Partitions); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(g.dir)); err != nil {
		return err
	}
	if join != nil {
		if err := join(g); err != nil {
			return err
		}
	}
	step("group made")
	// Under the lock, what is sent after this is the group's.
	err := ch.log.acquire(ctx)
	if err != nil {
		return err
	}
	g.meta.Start, g.meta.Counts = ch.log.mark.next, slices.Clone(ch.log.mark.counts)
	if ch.meta.kind() == driver.PointToPoint {
		err = ch.fromOldest(&g.meta)
	}
	if err == nil {
		err = writeJSON(filepath.Join(g.dir, "group.json"), g.meta)
	}
	return errors.Join(err, ch.log.release())
}

// fromOldest lets a group begin with the oldest message that there is.
func (ch *channel) fromOldest(m *groupMeta) error {
	bases, err := segments(ch.log.dir)
	if err != nil || len(bases) == 0 {
		return err
	}
	info, ok, err := readInfo(ch.log.dir, bases[0], ch.meta.Partitions)
	if err == nil && ok {
		m.Start, m.Counts = info.base, info.counts
	}
	return err
}
