package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Browse reads a channel's topic without consuming it, the partitions merged by
// their records' times. Of a point-to-point channel it shows what the group has
// not settled, of another everything that is still kept. Messages that were
// removed are passed over.
func (c *Conn) Browse(ctx context.Context, channel, after string, limit int) ([]driver.StoredMessage, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	doing := "browse channel " + channel
	t, err := c.topic(ctx, channel, channel)
	if err != nil {
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	if limit <= 0 {
		return nil, nil
	}
	b, err := c.bounds(ctx, t)
	if err != nil {
		return nil, err
	}
	gone, err := c.removedFrom(ctx, channel)
	if err != nil {
		return nil, err
	}
	m := merge{c: c, t: t, ends: b.end, taken: gone, cursors: make([]cursor, len(t.leaders))}
	from, err := c.settledBefore(ctx, t, channel)
	if err != nil {
		return nil, err
	}
	resume, err := parseAfter(after, len(t.leaders))
	if err != nil {
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	for p := range m.cursors {
		at := b.start[p]
		if p < len(from) {
			at, m.cursors[p].skip = max(at, from[p].at), from[p].skip
		}
		if p < len(resume) {
			at = max(at, resume[p])
		}
		m.cursors[p].next = at
	}
	var page []driver.StoredMessage
	for len(page) < limit {
		rec, err := m.pop(ctx)
		if err != nil {
			return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
		}
		if rec == nil {
			break
		}
		s := driver.StoredMessage{Position: m.position(rec), Message: &driver.Message{}}
		// What cannot be read stays among the headers; a page shows it as it is.
		_ = decode(s.Message, channel, rec, make([]byte, 0, sizeOf(rec)))
		page = append(page, s)
	}
	return page, nil
}

// A merge reads the partitions of a topic as one log.
type merge struct {
	c       *Conn
	t       *topic
	ends    []int64
	taken   removed
	cursors []cursor
}

type cursor struct {
	next  int64 // to ask for, or of the first in queue
	queue []*kgo.Record
	skip  runs
}

// pop returns the oldest record, nil at the end.
func (m *merge) pop(ctx context.Context) (*kgo.Record, error) {
	oldest := -1
	for p := range m.cursors {
		if err := m.fill(ctx, p); err != nil {
			return nil, err
		}
		q := m.cursors[p].queue
		if len(q) > 0 && (oldest < 0 || q[0].Timestamp.Before(m.cursors[oldest].queue[0].Timestamp)) {
			oldest = p
		}
	}
	if oldest < 0 {
		return nil, nil
	}
	cur := &m.cursors[oldest]
	rec := cur.queue[0]
	cur.queue, cur.next = cur.queue[1:], rec.Offset+1
	return rec, nil
}

// fill makes sure that a partition's next message is in its queue, unless there
// is none before the end.
func (m *merge) fill(ctx context.Context, p int) error {
	cur := &m.cursors[p]
	for {
		for len(cur.queue) > 0 && m.hidden(cur, cur.queue[0]) {
			cur.next = cur.queue[0].Offset + 1
			cur.queue = cur.queue[1:]
		}
		if len(cur.queue) > 0 || cur.next >= m.ends[p] {
			return nil
		}
		records, next, err := m.c.read(ctx, m.t, int32(p), cur.next)
		if errors.Is(err, driver.ErrPositionLost) {
			b, berr := m.c.bounds(ctx, m.t)
			if berr != nil || b.start[p] <= cur.next {
				return errors.Join(err, berr)
			}
			cur.next = b.start[p] // deleted just now
			continue
		}
		if err != nil {
			return err
		}
		if len(records) == 0 && next <= cur.next {
			return nil // a transaction that is not over, or a server that is not up to date
		}
		cur.queue = records
		if len(records) == 0 {
			cur.next = next
		}
	}
}

func (m *merge) hidden(cur *cursor, rec *kgo.Record) bool {
	return cur.skip.has(rec.Offset) || m.taken.has(rec.Partition, rec.Offset) || isTombstone(rec)
}

// position is where a record is, and, where there are several partitions, where
// each of them goes on.
func (m *merge) position(rec *kgo.Record) string {
	s := fmt.Sprintf("%d/%d", rec.Partition, rec.Offset)
	if len(m.cursors) == 1 {
		return s
	}
	next := make([]string, len(m.cursors))
	for p := range m.cursors {
		next[p] = strconv.FormatInt(m.cursors[p].next, 10)
	}
	return s + "@" + strings.Join(next, ",")
}

// parseAfter reads where each partition goes on after a position.
func parseAfter(position string, partitions int) ([]int64, error) {
	if position == "" {
		return nil, nil
	}
	p, offset, err := parsePosition(position)
	if err != nil {
		return nil, err
	}
	next := make([]int64, max(partitions, int(p)+1))
	if _, rest, ok := strings.Cut(position, "@"); ok {
		for i, s := range strings.Split(rest, ",") {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, foreignPosition(position)
			}
			if i < len(next) {
				next[i] = n
			}
		}
	}
	next[p] = max(next[p], offset+1)
	return next, nil
}

// parsePosition reads which record a position is of.
func parsePosition(position string) (partition int32, offset int64, err error) {
	record, _, _ := strings.Cut(position, "@")
	p, o, ok := strings.Cut(record, "/")
	n, err1 := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	if !ok || err1 != nil || err2 != nil || n < 0 || n > 1<<20 || offset < 0 {
		return 0, 0, foreignPosition(position)
	}
	return int32(n), offset, nil
}

func foreignPosition(position string) error {
	return fmt.Errorf("position %q is none of ours: use one that Browse returned, or %q", position, "")
}

// settled is what a group has settled of a partition.
type settled struct {
	at   int64
	skip runs
}

// settledBefore is how far the one group of a point-to-point channel is; nil for
// other channels, and while there is no group.
func (c *Conn) settledBefore(ctx context.Context, t *topic, channel string) ([]settled, error) {
	if err := c.reg.sync(ctx); err != nil {
		return nil, err
	}
	entry, known := c.reg.channel(channel)
	groups := c.reg.groupsOf(channel, t.id)
	if !known || entry.kind() != driver.PointToPoint || len(groups) == 0 {
		return nil, nil
	}
	slices.Sort(groups)
	return c.progress(ctx, t, groups[0])
}

// progress is how far a group is, by partition.
func (c *Conn) progress(ctx context.Context, t *topic, group string) ([]settled, error) {
	entry, _ := c.reg.group(group, t.name, t.id)
	doing := fmt.Sprintf("ask how far group %s of channel %s is", group, t.name)
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	committed, err := c.committed(ctx, groupID(group, t.name), t)
	if err != nil {
		return nil, translate(doing, err)
	}
	all := make([]settled, len(t.leaders))
	for p := range all {
		if p < len(entry.Positions) {
			all[p].at = entry.Positions[p]
		}
		if o, ok := committed.Lookup(t.name, int32(p)); ok && o.Err == nil && o.At >= 0 {
			all[p] = settled{o.At, decodeRuns(o.Metadata, o.At)}
		}
	}
	return all, nil
}

// committed asks for a consumer group's offsets.
func (c *Conn) committed(ctx context.Context, id string, t *topic) (offsets kadm.OffsetResponses, err error) {
	err = insist(ctx, func() error {
		offsets, err = c.adm.FetchOffsetsForTopics(ctx, id, t.name)
		return err
	})
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil // as some servers say of a group that has committed nothing
	}
	if err != nil {
		err = fmt.Errorf("group %s: %w", id, err)
	}
	return offsets, err
}
