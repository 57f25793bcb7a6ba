package filebus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A channel is an open channel of a Conn.
type channel struct {
	c    *Conn
	meta channelMeta
	dir  string
	log  *wal

	retaining sync.Mutex // one look for segments to delete at a time
	delayed   delayed
}

// channel returns an open channel, opening it if need be.
func (c *Conn) channel(ctx context.Context, name string) (*channel, error) {
	c.mu.Lock()
	ch := c.channels[name]
	c.mu.Unlock()
	if ch != nil {
		return ch, nil
	}
	c.opening.Lock()
	defer c.opening.Unlock()
	c.mu.Lock()
	ch = c.channels[name]
	c.mu.Unlock()
	if ch != nil {
		return ch, nil
	}
	if err := driver.ValidName(name); err != nil {
		return nil, fmt.Errorf("channel %w: %w", err, driver.ErrNotFound)
	}
	ch = &channel{c: c, dir: c.channelDir(name)}
	err := readJSON(filepath.Join(ch.dir, "channel.json"), &ch.meta)
	if err == nil && (ch.meta.Partitions < 1 || ch.meta.Partitions > maxPartitions) {
		err = fmt.Errorf("%s says %d partitions: restore it from a backup", filepath.Join(ch.dir, "channel.json"), ch.meta.Partitions)
	}
	if err == nil {
		ch.log, err = openLog(ctx, filepath.Join(ch.dir, "log"), ch.meta.Partitions, &c.opts, !ch.meta.Transient, ch.highest)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("channel %s: %w: provision it first", name, driver.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", name, explain(err))
	}
	ch.log.rolled = func() { ch.retain() }
	ch.log.unread = func() (bool, error) {
		gs, err := ch.groups()
		return len(gs) == 0, err
	}
	ch.startDelayed()
	c.mu.Lock()
	c.channels[name] = ch
	c.mu.Unlock()
	return ch, nil
}

// forget closes a channel that was removed, so that the next use looks for a
// new one of its name.
func (c *Conn) forget(ch *channel) {
	c.mu.Lock()
	known := c.channels[ch.meta.Name] == ch
	if known {
		delete(c.channels, ch.meta.Name)
	}
	closed := c.closed
	if known && !closed {
		c.ops.Add(1)
	}
	c.mu.Unlock()
	if !known {
		return
	}
	// Others may be using it: the files are closed once they are done.
	if closed {
		ch.close()
		return
	}
	go func() {
		defer c.ops.Done()
		ch.close()
	}()
}

func (ch *channel) close() error {
	ch.c.watch.remove(&ch.log.appends)
	return errors.Join(ch.stopDelayed(), ch.log.close(context.Background()))
}

// gone reports whether the channel was removed while it is open.
func (ch *channel) gone() bool { return ch.log.dead() }

// A group as it is on disk.
type group struct {
	dir  string
	meta groupMeta
}

func (g group) cursors() string { return filepath.Join(g.dir, "cursors") }

// groups returns the channel's groups. One that is being removed or was not
// finished is left out.
func (ch *channel) groups() ([]group, error) {
	names, err := listDir(filepath.Join(ch.dir, "groups"))
	if err != nil {
		return nil, err
	}
	var gs []group
	for _, n := range names {
		g := group{dir: filepath.Join(ch.dir, "groups", n)}
		err := readJSON(filepath.Join(g.dir, "group.json"), &g.meta)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		gs = append(gs, g)
	}
	return gs, nil
}

// eachCursor calls do for every partition of a group. The cursors file may be
// gone with its group.
func (ch *channel) eachCursor(g group, do func(partition int, c cursor)) error {
	f, err := os.OpenFile(g.cursors(), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for p := range ch.meta.Partitions {
		c, _, err := readCursor(f, p, &g.meta)
		if err != nil {
			return err
		}
		do(p, c)
	}
	return nil
}

// highest returns how far the groups have read.
func (ch *channel) highest() (next uint64, counts []uint64, err error) {
	counts = make([]uint64, ch.meta.Partitions)
	gs, err := ch.groups()
	for _, g := range gs {
		next = max(next, g.meta.Start)
		err = errors.Join(err, ch.eachCursor(g, func(p int, c cursor) {
			next = max(next, c.next.seq)
			counts[p] = max(counts[p], c.taken)
		}))
	}
	return next, counts, err
}
