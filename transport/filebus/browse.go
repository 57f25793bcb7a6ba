package filebus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

// positionFormat sorts as the channel does: the sequence number comes first.
// The rest says where the record was, so that it need not be looked for.
const positionFormat = "%020d.%020d.%012d"

func parsePosition(s string) (position, error) {
	var p position
	if n, err := fmt.Sscanf(s, positionFormat, &p.seq, &p.base, &p.off); n != 3 || err != nil || p.off < segHeader {
		return p, fmt.Errorf("position %q is not one that this transport gave", s)
	}
	return p, nil
}

// Browse returns messages that were not removed and that, where the channel has
// groups, at least one of them has not settled. A message that cannot be read
// comes with nothing but its bytes as body.
func (c *Conn) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.ops.Done()
	ch, err := c.present(ctx, channel)
	if err != nil {
		return nil, err
	}
	from := position{base: noBase}
	if after != "" {
		if from, err = parsePosition(after); err != nil {
			return nil, fmt.Errorf("browse channel %s: %w", channel, err)
		}
	}
	page, err := ch.browse(ctx, from, after != "", max)
	for range 100 {
		if !errors.Is(err, driver.ErrPositionLost) && !errors.Is(err, fs.ErrNotExist) || ch.gone() {
			break
		}
		// The oldest segment was deleted after it was listed.
		page, err = ch.browse(ctx, from, after != "", max)
	}
	if err != nil {
		return nil, fmt.Errorf("browse channel %s: %w", channel, explain(err))
	}
	return page, nil
}

func (ch *channel) browse(ctx context.Context, from position, behind bool, limit int) ([]driver.StoredMessage, error) {
	m, err := newMarkReader(ch.log.file, ch.meta.Partitions).read()
	if err != nil {
		return nil, err
	}
	open, floor, err := ch.unsettled()
	if err != nil {
		return nil, err
	}
	bases, err := segments(ch.log.dir)
	if err != nil || len(bases) == 0 {
		return nil, err
	}
	start := from
	if low := max(floor, bases[0]); start.seq < low {
		start = position{seq: low, base: noBase}
	}
	step("browsing")
	rd := reader{w: ch.log}
	defer rd.close()
	if err := rd.seek(start, m); err != nil {
		return nil, err
	}
	var page []driver.StoredMessage
	for bytes := 0; len(page) < limit && bytes < maxTaken; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rec, err := rd.next(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if rec.removed || rec.damage || rec.seq < start.seq || behind && rec.seq <= from.seq || !open(rec.partition, rec.seq) {
			continue
		}
		msg := &driver.Message{}
		if !rec.soundPayload(rec.payload) || decodeMessage(rec.payload, msg) != nil {
			*msg = driver.Message{Body: append([]byte(nil), rec.payload...)}
		}
		msg.Channel = ch.meta.Name
		page = append(page, driver.StoredMessage{Position: fmt.Sprintf(positionFormat, rec.seq, rd.base, rec.off), Message: msg})
		bytes += len(rec.payload)
	}
	return page, nil
}

// unsettled returns whether a message is still needed by a group, and the first
// that may be. Without groups all are.
func (ch *channel) unsettled() (open func(partition int, seq uint64) bool, floor uint64, err error) {
	gs, err := ch.groups()
	if err != nil || len(gs) == 0 {
		return func(int, uint64) bool { return true }, 0, err
	}
	cursors := make([][]cursor, ch.meta.Partitions)
	floor = noBase
	for _, g := range gs {
		err = errors.Join(err, ch.eachCursor(g, func(p int, c cursor) {
			cursors[p] = append(cursors[p], c)
			floor = min(floor, c.floor())
		}))
	}
	return func(p int, seq uint64) bool {
		return p < len(cursors) && slices.ContainsFunc(cursors[p], func(c cursor) bool {
			if seq >= c.next.seq {
				return true
			}
			_, found := slices.BinarySearchFunc(c.open, seq, func(o opened, seq uint64) int { return cmp.Compare(o.seq, seq) })
			return found
		})
	}, floor, err
}

// Remove takes messages out of a channel, for good: with SyncAlways that
// survives a loss of power. Receivers that have one in hand keep it.
func (c *Conn) Remove(ctx context.Context, channel string, positions []string) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.ops.Done()
	ch, err := c.present(ctx, channel)
	if err != nil {
		return err
	}
	at := make([]position, len(positions))
	for i, s := range positions {
		if at[i], err = parsePosition(s); err != nil {
			return fmt.Errorf("remove from channel %s: %w", channel, err)
		}
	}
	if err := ch.log.removeAt(ctx, at); err != nil {
		return fmt.Errorf("remove from channel %s: %w", channel, explain(err))
	}
	return nil
}

// removeAt takes the append lock and removes.
func (w *wal) removeAt(ctx context.Context, at []position) error {
	slices.SortFunc(at, func(a, b position) int { return cmp.Or(cmp.Compare(a.base, b.base), cmp.Compare(a.off, b.off)) })
	if err := w.acquire(ctx); err != nil {
		return err
	}
	return errors.Join(w.remove(at), w.release())
}
