package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

const (
	editedCase    = "Held_message_that_was_edited_comes_as_edited_whatever_happens"
	discardedCase = "Held_message_that_was_discarded_does_not_come_back"
	takenCase     = "Held_message_that_is_being_tried_is_not_changed"
	browseCase    = "Held_message_that_was_released_is_not_browsed"
)

// olds are messages as they were before they were edited, and rows that were
// discarded.
type olds struct {
	mu      sync.Mutex
	message map[int64]*driver.Message
	held    []store.Held
}

// remember has a mutant keep what it edits and discards.
func remember(l *lab) *olds {
	o := &olds{message: map[int64]*driver.Message{}}
	at := func(ctx context.Context, p store.Position) (store.Held, bool) {
		rows, _ := l.inner.Browse(ctx, 0, store.Position{Seq: p.Seq - 1}, 1)
		if len(rows) == 0 || rows[0].Position != p {
			return store.Held{}, false
		}
		return rows[0], true
	}
	l.edit = func(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
		h, there := at(ctx, p)
		err := l.inner.Edit(ctx, shard, p, m)
		if there && err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.message[p.Seq] = h.Message
		}
		return err
	}
	l.discard = func(ctx context.Context, shard int, ps []store.Position) (int, error) {
		var all []store.Held
		for _, p := range ps {
			if h, there := at(ctx, p); there {
				all = append(all, h)
			}
		}
		n, err := l.inner.Discard(ctx, shard, ps)
		if err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.held = append(o.held, all...)
		}
		return n, err
	}
	return o
}

// old makes a row what it was.
func (o *olds) old(r *store.Row) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m, edited := o.message[r.Position.Seq]; edited {
		r.Message = m.Clone()
	}
}

// discarding changes what Discard does.
func discarding(do func(l *lab, ctx context.Context, ps []store.Position) (int, error)) func(*lab) {
	return func(l *lab) {
		l.discard = func(ctx context.Context, _ int, ps []store.Position) (int, error) { return do(l, ctx, ps) }
	}
}

// takes is a store that lets people change what the relay is trying.
func takes(l *lab) {
	l.due = func(ctx context.Context, t store.Term, skip []string, max store.Limit, _ time.Duration) ([]store.Held, time.Time, error) {
		return l.inner.Due(ctx, t, skip, max, 0)
	}
}

var repairMutants = map[string]mutant{
	"browses what was released": {by: browseCase, plant: func(l *lab) {
		var released []store.Held
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			released = append(released, p.Release...)
			return l.inner.Advance(ctx, t, p)
		}
		l.browse = func(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
			rows, err := l.inner.Browse(ctx, shard, after, max)
			return append(slices.Clone(released), rows...), err
		}
	}},
	"browses from the beginning": {by: heldCase + "|" + dueLimitsCase, plant: func(l *lab) {
		l.browse = func(ctx context.Context, shard int, _ store.Position, max int) ([]store.Held, error) {
			return l.inner.Browse(ctx, shard, store.Position{}, max)
		}
	}},
	"browses more than it is asked to": {by: heldCase + "|" + dueLimitsCase, plant: func(l *lab) {
		l.browse = func(ctx context.Context, shard int, after store.Position, _ int) ([]store.Held, error) {
			return l.inner.Browse(ctx, shard, after, 1<<20)
		}
	}},
	"browses what is due alone": {by: "Held_message_that_waits_is_browsed", plant: func(l *lab) {
		l.browse = func(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
			rows, err := l.inner.Browse(ctx, shard, after, max)
			return slices.DeleteFunc(rows, func(h store.Held) bool { return h.Lane.Retry.After(time.Now()) }), err
		}
	}},
	"edits the held copy alone": {by: editedCase, plant: func(l *lab) {
		o := remember(l)
		paging(func(_ *lab, p *store.Page, _ store.Limit) error {
			for i := range p.Rows {
				o.old(&p.Rows[i])
			}
			return nil
		})(l)
	}},
	"edits the outbox alone": {by: editedCase, plant: func(l *lab) {
		o := remember(l)
		trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
			for i := range rows {
				o.old(&rows[i].Row)
			}
			return rows
		})(l)
	}},
	"holds what was edited as the relay had it": {by: editedCase, plant: func(l *lab) {
		o := remember(l)
		again := map[int64]bool{}
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, h := range p.Hold {
				again[h.Position.Seq] = true
			}
			return l.inner.Advance(ctx, t, p)
		}
		edit := l.edit
		l.edit = func(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
			clear(again)
			return edit(ctx, shard, p, m)
		}
		trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
			for i := range rows {
				if again[rows[i].Position.Seq] {
					o.old(&rows[i].Row)
				}
			}
			return rows
		})(l)
	}},
	"edits the body alone": {by: editedCase, plant: func(l *lab) {
		l.edit = func(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
			rows, _ := l.inner.Browse(ctx, shard, store.Position{Seq: p.Seq - 1}, 1)
			if len(rows) == 0 || rows[0].Position != p {
				return l.inner.Edit(ctx, shard, p, m)
			}
			now := rows[0].Message
			now.Body = m.Body
			return l.inner.Edit(ctx, shard, p, now)
		}
	}},
	"edits nothing, and says that it did": {by: editedCase, plant: func(l *lab) {
		l.edit = func(context.Context, int, store.Position, *driver.Message) error { return nil }
	}},
	"edits what was published": {by: editedCase, plant: func(l *lab) {
		l.edit = func(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
			if err := l.inner.Edit(ctx, shard, p, m); !errors.Is(err, store.ErrNotHeld) {
				return err
			}
			return nil
		}
	}},
	"gives what was discarded again after a rewind": {by: discardedCase, plant: func(l *lab) {
		o := remember(l)
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			page, err := l.inner.Next(ctx, t, after, done, max)
			for _, h := range o.held {
				if h.Position.Seq > after.Seq {
					page.Rows = append(page.Rows, h.Row)
				}
			}
			slices.SortFunc(page.Rows, func(a, b store.Row) int { return int(a.Position.Seq - b.Position.Seq) })
			return page, err
		}
	}},
	"holds what was discarded": {by: discardedCase, plant: func(l *lab) {
		o := remember(l)
		var back []store.Held
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, h := range p.Hold {
				if slices.ContainsFunc(o.held, func(d store.Held) bool { return d.Position == h.Position }) {
					back = append(back, h)
				}
			}
			return l.inner.Advance(ctx, t, p)
		}
		trying(nil, func(rows []store.Held, _ *time.Time) []store.Held { return append(back, rows...) })(l)
	}},
	"discards nothing": {by: discardedCase, plant: discarding(func(_ *lab, _ context.Context, ps []store.Position) (int, error) { return len(ps), nil })},
	"counts what it did not find as discarded": {by: discardedCase, plant: discarding(func(l *lab, ctx context.Context, ps []store.Position) (int, error) {
		_, err := l.inner.Discard(ctx, 0, ps)
		return len(ps), err
	})},
	"lets a lane wait of which it discarded the first": {by: discardedCase, plant: func(l *lab) {
		var waits lanes
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, r := range p.Retry {
				waits.set(r, r.Retry.After(time.Now()))
			}
			return l.inner.Advance(ctx, t, p)
		}
		trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
			return slices.DeleteFunc(rows, func(h store.Held) bool { return waits.has(h.Lane) })
		})(l)
	}},
	"keeps a lane blocked of which it discarded all": {by: discardedCase, plant: func(l *lab) {
		o := remember(l)
		blocking(asAsked, func(l store.Lane, blocked bool) bool {
			return blocked || slices.ContainsFunc(o.held, func(h store.Held) bool { return h.Lane.Name == l.Name })
		})(l)
	}},
	"changes what the relay is trying": {by: takenCase, plant: takes},
	"discards one of two and fails": {by: "Discard_of_several_is_whole_or_not_at_all", plant: discarding(func(l *lab, ctx context.Context, ps []store.Position) (n int, err error) {
		for _, p := range ps {
			some, derr := l.inner.Discard(ctx, 0, []store.Position{p})
			n, err = n+some, errors.Join(err, derr)
		}
		return n, err
	})},
	"discards what the relay is trying": {by: takenCase, plant: func(l *lab) {
		l.discard = func(ctx context.Context, shard int, ps []store.Position) (int, error) {
			n, err := l.inner.Discard(ctx, shard, ps)
			if errors.Is(err, store.ErrTaken) {
				return len(ps), nil
			}
			return n, err
		}
	}},
	"never gives a lane back that was tried": {by: takenCase, plant: func(l *lab) {
		var tried bool
		l.due = func(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
			tried = true
			return l.inner.Due(ctx, t, skip, max, take)
		}
		l.edit = func(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
			if err := l.inner.Edit(ctx, shard, p, m); err != nil || !tried {
				return err
			}
			return store.ErrTaken
		}
	}},
	"stays unreadable when it is edited": {by: "Row_that_cannot_be_read_is_held_and_can_be_edited", plant: func(l *lab) {
		bad := map[string]bool{}
		l.reads = func(r *store.Row) {
			if l.read(r); r.Err != nil {
				bad[r.Message.ID] = true
			}
			if bad[r.Message.ID] && r.Err == nil {
				r.Err = errors.New("stored header has no colon")
			}
		}
	}},
	"holds nothing that cannot be read": {by: "Row_that_cannot_be_read_is_held_and_can_be_edited", plant: steps(func(p *store.Progress) {
		p.Hold = slices.DeleteFunc(slices.Clone(p.Hold), func(h store.Held) bool { return h.Err != nil })
	})},
}
