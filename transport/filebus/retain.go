package filebus

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// retain deletes the segments that every group has passed. Without groups a
// point-to-point channel keeps everything, and a publish–subscribe channel
// nothing but the segment that is appended to: nobody is owed the rest. What
// goes wrong here shows where it matters, as a full disk, and is tried again.
func (ch *channel) retain() {
	if !ch.retaining.TryLock() {
		return
	}
	defer ch.retaining.Unlock()
	if ch.gone() {
		return
	}
	ch.removeOrphans()
	bases, err := segments(ch.log.dir)
	if err != nil || len(bases) < 2 {
		return
	}
	gs, err := ch.groups()
	if err != nil || len(gs) == 0 && ch.meta.kind() == driver.PointToPoint {
		return
	}
	floor := bases[len(bases)-1]
	for _, g := range gs {
		if err := ch.eachCursor(g, func(_ int, c cursor) { floor = min(floor, c.floor()) }); err != nil {
			return
		}
	}
	if floor < bases[1] {
		return
	}
	// A cursor that a loss of power sets back must not need what is deleted.
	for _, g := range gs {
		if syncFile(g.cursors()) != nil {
			return
		}
	}
	for i, base := range bases[:len(bases)-1] {
		if bases[i+1] > floor {
			return
		}
		if os.Remove(segmentPath(ch.log.dir, base)) != nil {
			return
		}
		step("segment deleted")
	}
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed with its group
	}
	if err != nil {
		return err
	}
	return errors.Join(syncData(f), f.Close())
}

// removeOrphans removes the groups of broadcast instances that have been away
// for longer than Options.Expire. They are made and judged under the provision
// lock; if that is taken, another time.
func (ch *channel) removeOrphans() {
	names, err := listDir(filepath.Join(ch.dir, "groups"))
	if err != nil {
		return
	}
	for _, n := range names {
		dir := filepath.Join(ch.dir, "groups", n)
		if !strings.Contains(n, "~") || !ch.expired(dir) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		ch.c.locked(ctx, func() error {
			if !ch.expired(dir) {
				return nil
			}
			return ch.c.discard(dir)
		})
		cancel()
	}
}

// expired reports whether a broadcast group has had no receiver for so long. The
// directory of its members has changed when the last of them left, or was found
// dead.
func (ch *channel) expired(dir string) bool {
	if alive, err := anyMember(dir); err != nil || alive {
		return false
	}
	st, err := os.Stat(filepath.Join(dir, "members"))
	if errors.Is(err, fs.ErrNotExist) { // half made
		st, err = os.Stat(dir)
	}
	return err == nil && time.Since(st.ModTime()) > ch.c.opts.Expire
}
