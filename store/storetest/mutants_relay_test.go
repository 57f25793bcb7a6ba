package storetest_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

const (
	fencedCase  = "Term_that_has_passed_changes_nothing"
	limitsCase  = "Next_stops_at_its_limits"
	retireCase  = "Retire_keeps_to_what_was_passed_and_to_its_maximum"
	rewindCase  = "Rewind_gives_everything_retained_again_in_order"
	statsCase   = "Stats_count_the_backlog"
	spoiltCase  = "Row_that_cannot_be_read_is_given_out_with_its_error"
	cursorCase  = "Cursor_stays_where_it_was_advanced_to"
	alongCase   = "Next_moves_the_cursor_along_if_at_all"
	unblockCase = "Blocked_lanes_stay_so_until_all_of_them_is_released"
)

// renewed is a term that holds, whatever has become of t.
func (l *lab) renewed(ctx context.Context, t store.Term) store.Term {
	now, err := l.inner.Acquire(ctx, t.Name, t.Holder, time.Minute)
	if err != nil {
		return t
	}
	return store.Term{Lease: now, Shard: t.Shard}
}

// paging changes what Next returns.
func paging(change func(*lab, *store.Page, store.Limit) error) func(*lab) {
	return func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			page, err := l.inner.Next(ctx, t, after, done, max)
			return page, errors.Join(err, change(l, &page, max))
		}
	}
}

// counting changes what Stats returns.
func counting(change func(*store.Stats)) func(*lab) {
	return func(l *lab) {
		l.stats = func(ctx context.Context, shard int) (store.Stats, error) {
			st, err := l.inner.Stats(ctx, shard)
			change(&st)
			return st, err
		}
	}
}

// steps changes what Advance is told.
func steps(change func(*store.Progress)) func(*lab) {
	return func(l *lab) {
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			change(&p)
			return l.inner.Advance(ctx, t, p)
		}
	}
}

var relayMutants = map[string]mutant{
	"lets the cursor go back": {by: "Cursor_never_goes_back", plant: func(l *lab) {
		var at store.Position
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			if p.To != (store.Position{}) {
				at = p.To
			}
			return l.inner.Advance(ctx, t, p)
		}
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			c, err := l.inner.Resume(ctx, t, service)
			c.Position = at
			return c, err
		}
	}},
	"sets the cursor back where a step names no position": {by: "Cursor_never_goes_back|" + cursorCase, plant: func(l *lab) {
		var back bool
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			back = p.To == (store.Position{})
			return l.inner.Advance(ctx, t, p)
		}
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			c, err := l.inner.Resume(ctx, t, service)
			if back {
				c.Position = store.Position{}
			}
			return c, err
		}
	}},
	"forgets the cursor":          {by: cursorCase, plant: steps(func(p *store.Progress) { p.To = store.Position{} })},
	"forgets which broker it was": {by: cursorCase, plant: steps(func(p *store.Progress) { p.Incarnation = "" })},
	"advances when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			return l.inner.Advance(ctx, l.renewed(ctx, t), p)
		}
	}},
	"resumes when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			return l.inner.Resume(ctx, l.renewed(ctx, t), service)
		}
	}},
	"promotes when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.promote = func(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
			return l.inner.Promote(ctx, l.renewed(ctx, t), max)
		}
	}},
	"rewinds when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.rewind = func(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
			return l.inner.Rewind(ctx, l.renewed(ctx, t), incarnation)
		}
	}},
	"retires when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			return l.inner.Retire(ctx, l.renewed(ctx, t), r, max)
		}
	}},
	"takes held messages when its term has passed": {by: "Held_message_that_is_being_tried_is_not_changed", plant: func(l *lab) {
		l.due = func(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
			return l.inner.Due(ctx, l.renewed(ctx, t), skip, max, take)
		}
	}},
	"moves the cursor along when its term has passed": {by: fencedCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			_ = l.inner.Advance(ctx, l.renewed(ctx, t), store.Progress{To: done})
			page, err := l.inner.Next(ctx, t, after, done, max)
			page.Advanced = true
			return page, err
		}
	}},
	"moves the cursor along and does not say so": {by: alongCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			_ = l.inner.Advance(ctx, t, store.Progress{To: done})
			return l.inner.Next(ctx, t, after, done, max)
		}
	}},
	"moves the cursor along to what it gave out": {by: alongCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			_ = l.inner.Advance(ctx, t, store.Progress{To: after})
			return l.inner.Next(ctx, t, after, done, max)
		}
	}},
	"lets another service in": {by: "Resume_is_refused_to_another_service", plant: func(l *lab) {
		l.resume = func(ctx context.Context, t store.Term, _ string) (store.Cursor, error) {
			return l.inner.Resume(ctx, t, "catalog")
		}
	}},
	"reads more rows than it may": {by: limitsCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			max.Rows++
			return l.inner.Next(ctx, t, after, done, max)
		}
	}},
	"reads more bytes than it may": {by: limitsCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			max.Bytes += 2000
			return l.inner.Next(ctx, t, after, done, max)
		}
	}},
	"reads nothing where the first row is larger than the limit": {by: limitsCase, plant: paging(func(_ *lab, p *store.Page, max store.Limit) error {
		p.Rows = slices.DeleteFunc(p.Rows, func(r store.Row) bool { return len(r.Message.Body) > max.Bytes })
		return nil
	})},
	"passes the first row over": {by: limitsCase, plant: paging(func(_ *lab, p *store.Page, _ store.Limit) error {
		p.Rows = p.Rows[min(1, len(p.Rows)):]
		return nil
	})},
	"gives rows of the position itself again": {by: limitsCase, plant: func(l *lab) {
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			after.Seq--
			return l.inner.Next(ctx, t, after, done, max)
		}
	}},
	"gives every row once": {by: rewindCase + "|" + limitsCase, plant: func(l *lab) {
		seen := map[int64]bool{}
		paging(func(_ *lab, p *store.Page, _ store.Limit) error {
			p.Rows = slices.DeleteFunc(p.Rows, func(r store.Row) bool {
				again := seen[r.Position.Seq]
				seen[r.Position.Seq] = true
				return again
			})
			return nil
		})(l)
	}},
	"stops at a row that it cannot read": {by: spoiltCase, plant: paging(func(l *lab, p *store.Page, _ store.Limit) error {
		for i := range p.Rows {
			if r := p.Rows[i]; l.spoilt[r.Message.ID] {
				p.Rows = p.Rows[:i]
				return errors.New("stored header has no colon")
			}
		}
		return nil
	})},
	"passes over a row that it cannot read": {by: spoiltCase, plant: paging(func(l *lab, p *store.Page, _ store.Limit) error {
		p.Rows = slices.DeleteFunc(p.Rows, func(r store.Row) bool { return l.spoilt[r.Message.ID] })
		return nil
	})},
	"hides that it cannot read a row": {by: spoiltCase, plant: func(l *lab) {
		l.reads = func(r *store.Row) { l.read(r); r.Err = nil }
	}},
	"gives no body of a row that it cannot read": {by: spoiltCase, plant: func(l *lab) {
		l.reads = func(r *store.Row) {
			if l.read(r); r.Err != nil {
				r.Message.Body = nil
			}
		}
	}},
	"gives no text of a row that it cannot read": {by: spoiltCase, plant: func(l *lab) {
		l.reads = func(r *store.Row) { l.read(r); r.Text = "" }
	}},
	"rewinds nothing": {by: rewindCase, plant: func(l *lab) {
		l.rewind = func(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
			if err := l.inner.Advance(ctx, t, store.Progress{Incarnation: incarnation}); err != nil {
				return store.Cursor{}, err
			}
			return l.inner.Resume(ctx, t, "catalog")
		}
	}},
	"rewinds without the held messages": {by: rewindCase, plant: func(l *lab) {
		l.rewind = func(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
			_, err := l.inner.Rewind(ctx, t, incarnation)
			due, _, _ := l.inner.Due(ctx, t, nil, store.Limit{Rows: 1 << 20, Bytes: 1 << 30}, 0)
			_ = l.inner.Advance(ctx, t, store.Progress{Release: due})
			return store.Cursor{Incarnation: incarnation}, err
		}
	}},
	"rewinds and forgets which broker it is": {by: rewindCase, plant: func(l *lab) {
		l.rewind = func(ctx context.Context, t store.Term, _ string) (store.Cursor, error) {
			return l.inner.Rewind(ctx, t, "")
		}
	}},
	"retires what the cursor has not passed": {by: retireCase, plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			at, _ := l.inner.Resume(ctx, t, "catalog")
			_ = l.inner.Advance(ctx, t, store.Progress{To: r.Through})
			n, err := l.inner.Retire(ctx, t, r, max)
			l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) { return at, nil }
			return n, err
		}
	}},
	"retires more than it is asked to": {by: retireCase, plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, _ int) (int, error) {
			return l.inner.Retire(ctx, t, r, 1<<30)
		}
	}},
	"retires what was released later than asked": {by: retireCase, plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			r.Released = time.Now().Add(time.Hour)
			return l.inner.Retire(ctx, t, r, max)
		}
	}},
	"retires all that is passed, whatever is asked": {by: retireCase, plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			r.Through = store.Position{Seq: 1 << 40}
			return l.inner.Retire(ctx, t, r, max)
		}
	}},
	"retires held messages that are not published": {by: "Retire_deletes_only_what_was_published", plant: func(l *lab) {
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			due, _, _ := l.inner.Due(ctx, t, nil, store.Limit{Rows: 1 << 20, Bytes: 1 << 30}, 0)
			_ = l.inner.Advance(ctx, t, store.Progress{Release: due})
			return l.inner.Retire(ctx, t, r, max)
		}
	}},
	"uses positions again when all is retired": {by: "Message_written_after_everything_was_retired_is_read", plant: func(l *lab) {
		var used, base int64 // what is said of a position is so much less
		l.next = func(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
			after.Seq += base
			page, err := l.inner.Next(ctx, t, after, done, max)
			for i := range page.Rows {
				used = page.Rows[i].Position.Seq
				page.Rows[i].Position.Seq -= base
			}
			return page, err
		}
		l.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			_ = l.inner.Advance(ctx, t, store.Progress{To: store.Position{Seq: used}})
			n, err := l.inner.Retire(ctx, t, store.Retirement{Through: store.Position{Seq: used}}, max)
			base = used
			return n, err
		}
	}},
	"counts no held messages":            {by: statsCase, plant: counting(func(st *store.Stats) { st.Held = 0 })},
	"counts held messages as a backlog":  {by: statsCase, plant: counting(func(st *store.Stats) { st.Backlog += 3 * st.Held })},
	"counts no delayed messages":         {by: statsCase, plant: counting(func(st *store.Stats) { st.Later = 0 })},
	"counts no backlog":                  {by: statsCase, plant: counting(func(st *store.Stats) { st.Backlog = 0 })},
	"says nothing of its oldest message": {by: statsCase, plant: counting(func(st *store.Stats) { st.Oldest = time.Time{} })},
	"always has an oldest message":       {by: statsCase, plant: counting(func(st *store.Stats) { st.Oldest = time.Now() })},
	"does not say whose outbox it is":    {by: statsCase, plant: counting(func(st *store.Stats) { st.Service = "" })},
}
