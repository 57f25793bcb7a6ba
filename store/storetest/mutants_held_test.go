package storetest_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

const (
	dueLimitsCase = "Held_messages_are_read_within_limits_and_in_the_order_of_lanes"
	heldCase      = "Held_messages_keep_their_order_and_block_their_lane"
	retryCase     = "Held_messages_wait_for_their_next_attempt"
	laneCase      = "Held_messages_of_one_lane_are_tried_again_when_asked"
	caseCase      = "Lanes_that_differ_in_case_alone_are_apart"
)

// trying changes how Due is asked and what it returns.
func trying(ask func(skip *[]string, max *store.Limit), change func(rows []store.Held, next *time.Time) []store.Held) func(*lab) {
	return func(l *lab) {
		l.due = func(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
			if ask != nil {
				ask(&skip, &max)
			}
			rows, next, err := l.inner.Due(ctx, t, skip, max, take)
			if change != nil {
				rows = change(rows, &next)
			}
			return rows, next, err
		}
	}
}

// blocking changes what lanes Blocked is asked for, and its answers.
func blocking(ask func(*store.Lane), answer func(store.Lane, bool) bool) func(*lab) {
	return func(l *lab) {
		l.blocked = func(ctx context.Context, t store.Term, lanes []store.Lane) ([]bool, error) {
			asked := slices.Clone(lanes)
			for i := range asked {
				ask(&asked[i])
			}
			all, err := l.inner.Blocked(ctx, t, asked)
			for i := range all {
				all[i] = answer(lanes[i], all[i])
			}
			return all, err
		}
	}
}

func asAsked(*store.Lane)                  {}
func asIs(_ store.Lane, blocked bool) bool { return blocked }

// lanes is a set of lanes.
type lanes struct {
	mu sync.Mutex
	of map[store.Lane]bool
}

func (s *lanes) set(l store.Lane, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[store.Lane]bool{}
	}
	s.of[store.Lane{Channel: l.Channel, Name: l.Name}] = there
}

func (s *lanes) has(l store.Lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[store.Lane{Channel: l.Channel, Name: l.Name}]
}

var heldMutants = map[string]mutant{
	"tries more rows than it may":  {by: dueLimitsCase, plant: trying(func(_ *[]string, max *store.Limit) { max.Rows = 1 << 20 }, nil)},
	"tries more bytes than it may": {by: dueLimitsCase, plant: trying(func(_ *[]string, max *store.Limit) { max.Bytes = 1 << 30 }, nil)},
	"tries nothing where the first row is larger than the limit": {by: dueLimitsCase, plant: func(l *lab) {
		l.due = func(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
			rows, next, err := l.inner.Due(ctx, t, skip, max, take)
			return slices.DeleteFunc(rows, func(h store.Held) bool { return len(h.Message.Body) > max.Bytes }), next, err
		}
	}},
	"tries lanes by their names": {by: dueLimitsCase, plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
		slices.SortStableFunc(rows, func(a, b store.Held) int { return strings.Compare(a.Lane.Name, b.Lane.Name) })
		return rows
	})},
	"tries the lane last that waits longest": {by: dueLimitsCase, plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
		slices.SortStableFunc(rows, func(a, b store.Held) int { return b.Lane.Retry.Compare(a.Lane.Retry) })
		return rows
	})},
	"tries a lane in the order in which it was held": {by: heldCase, plant: func(l *lab) {
		var held []int64
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, h := range p.Hold {
				if !slices.Contains(held, h.Position.Seq) {
					held = append(held, h.Position.Seq)
				}
			}
			return l.inner.Advance(ctx, t, p)
		}
		trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
			slices.SortStableFunc(rows, func(a, b store.Held) int {
				return slices.Index(held, a.Position.Seq) - slices.Index(held, b.Position.Seq)
			})
			return rows
		})(l)
	}},
	"tries one row of each lane": {by: heldCase, plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
		return slices.CompactFunc(rows, func(a, b store.Held) bool { return a.Lane.Name == b.Lane.Name })
	})},
	"tries the channels that it is to skip": {by: heldCase, plant: trying(func(skip *[]string, _ *store.Limit) { *skip = nil }, nil)},
	"tries lanes that are not due": {by: retryCase, plant: func(l *lab) {
		steps(func(p *store.Progress) {
			p.Retry = slices.Clone(p.Retry)
			for i := range p.Retry {
				p.Retry[i].Retry = time.Time{}
			}
		})(l)
	}},
	"does not say when the next lane is due": {by: retryCase, plant: trying(nil, func(rows []store.Held, next *time.Time) []store.Held {
		*next = time.Time{}
		return rows
	})},
	"keeps the first error of a lane": {by: retryCase, plant: steps(func(p *store.Progress) {
		p.Retry = slices.Clone(p.Retry)
		for i := range p.Retry {
			p.Retry[i].Error = "too large"
		}
	})},
	"counts no attempts of a lane": {by: retryCase, plant: steps(func(p *store.Progress) {
		p.Retry = slices.Clone(p.Retry)
		for i := range p.Retry {
			p.Retry[i].Attempts = 3
		}
	})},
	"forgets the error of what it holds": {by: heldCase, plant: steps(func(p *store.Progress) {
		for i := range p.Hold {
			p.Hold[i].Lane.Error = ""
		}
	})},
	"holds nothing":    {by: heldCase, plant: steps(func(p *store.Progress) { p.Hold = nil })},
	"releases nothing": {by: heldCase, plant: steps(func(p *store.Progress) { p.Release = nil })},
	"holds before it releases": {by: "Step_that_releases_and_holds_releases_first", plant: func(l *lab) {
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			first := p
			first.Release = nil
			if err := l.inner.Advance(ctx, t, first); err != nil {
				return err
			}
			return l.inner.Advance(ctx, t, store.Progress{Release: p.Release})
		}
	}},
	"keeps the release of what is held again": {by: "Held_message_that_is_held_again_after_its_release_is_due", plant: func(l *lab) {
		released := map[int64]bool{}
		steps(func(p *store.Progress) {
			for _, h := range p.Release {
				released[h.Position.Seq] = true
			}
			p.Hold = slices.DeleteFunc(slices.Clone(p.Hold), func(h store.Held) bool { return released[h.Position.Seq] })
		})(l)
	}},
	"cannot hold a long key": {by: "Held_message_of_a_long_key_keeps_its_lane", plant: steps(func(p *store.Progress) {
		p.Hold = slices.DeleteFunc(slices.Clone(p.Hold), func(h store.Held) bool { return len(h.Message.Key) > 2700 })
	})},
	"cuts long keys of lanes": {by: "Held_message_of_a_long_key_keeps_its_lane", plant: blocking(asAsked, func(l store.Lane, blocked bool) bool {
		return blocked || len(l.Name) > 60
	})},
	"cuts the keys of held messages": {by: "Held_message_of_a_long_key_keeps_its_lane", plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
		for _, h := range rows {
			h.Message.Key = h.Message.Key[:min(255, len(h.Message.Key))]
		}
		return rows
	})},
	"cuts error texts in the middle of a letter": {by: "Held_message_with_any_error_text_is_kept", plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held {
		for i := range rows {
			e := &rows[i].Lane.Error
			*e = (*e)[:min(9, len(*e))]
		}
		return rows
	})},
	"blocks no lane":                {by: heldCase, plant: blocking(asAsked, func(store.Lane, bool) bool { return false })},
	"blocks a key on every channel": {by: heldCase, plant: blocking(func(l *store.Lane) { l.Channel = "stock" }, asIs)},
	"merges lanes that differ in case": {by: caseCase, plant: blocking(func(l *store.Lane) {
		l.Channel, l.Name = strings.ToLower(l.Channel), strings.ToLower(l.Name)
	}, asIs)},
	"merges lanes that differ in spaces at the end": {by: caseCase, plant: blocking(func(l *store.Lane) { l.Name = strings.TrimSpace(l.Name) }, asIs)},
	"frees a lane with the first message released": {by: unblockCase, plant: func(l *lab) {
		var free lanes
		blocking(asAsked, func(l store.Lane, blocked bool) bool { return blocked && !free.has(l) })(l)
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, h := range p.Release {
				free.set(h.Lane, true)
			}
			return l.inner.Advance(ctx, t, p)
		}
	}},
	"keeps a lane blocked that is empty": {by: unblockCase + "|" + heldCase, plant: func(l *lab) {
		var ever lanes
		blocking(asAsked, func(l store.Lane, blocked bool) bool { return blocked || ever.has(l) })(l)
		l.advance = func(ctx context.Context, t store.Term, p store.Progress) error {
			for _, h := range p.Hold {
				ever.set(h.Lane, true)
			}
			return l.inner.Advance(ctx, t, p)
		}
	}},
	"forgets on which channels messages are held": {by: heldCase, plant: func(l *lab) {
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			c, err := l.inner.Resume(ctx, t, service)
			c.Channels = nil
			return c, err
		}
	}},
	"retries every channel": {by: laneCase, plant: func(l *lab) {
		l.retryHeld = func(ctx context.Context, channel, name string) (int, error) { return l.inner.RetryHeld(ctx, "", name) }
	}},
	"retries a whole channel for one lane": {by: laneCase, plant: func(l *lab) {
		l.retryHeld = func(ctx context.Context, channel, name string) (int, error) {
			return l.inner.RetryHeld(ctx, channel, "")
		}
	}},
	"retries nothing where no channel is named": {by: laneCase, plant: func(l *lab) {
		l.retryHeld = func(ctx context.Context, channel, name string) (int, error) {
			if channel == "" {
				return 0, nil
			}
			return l.inner.RetryHeld(ctx, channel, name)
		}
	}},
	"counts messages and not lanes that are retried": {by: laneCase + "|" + retryCase, plant: func(l *lab) {
		l.retryHeld = func(ctx context.Context, channel, name string) (int, error) {
			_, err := l.inner.RetryHeld(ctx, channel, name)
			rows, _ := l.inner.Browse(ctx, 0, store.Position{}, 1<<20)
			rows = slices.DeleteFunc(rows, func(h store.Held) bool {
				return channel != "" && h.Message.Channel != channel || name != "" && h.Lane.Name != name
			})
			return len(rows), err
		}
	}},
}
