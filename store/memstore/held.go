package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

type lane struct{ channel, name string }

// laneState is a lane and until when the relay has it.
type laneState struct {
	store.Lane
	taken time.Time
}

type heldRow struct {
	store.Held
	released time.Time // when it was published; zero: it was not
}

// hold sets rows aside as they are in the outbox now; those that are held
// already keep their place.
func (s *Store) hold(rows []store.Held) {
	for _, h := range rows {
		k := lane{h.Message.Channel, h.Lane.Name}
		i, there := s.heldAt(h.Position)
		if !there {
			n := s.from(h.Position) - 1
			if n < 0 || s.rows[n].Position.Seq != h.Position.Seq {
				continue // it was discarded meanwhile
			}
			h.Row = store.Row{Position: h.Position, Message: s.rows[n].Message.Clone()}
			s.held = slices.Insert(s.held, i, heldRow{Held: h})
		}
		s.held[i].released = time.Time{}
		if _, ok := s.lanes[k]; !ok {
			h.Lane.Channel = k.channel
			s.lanes[k] = &laneState{Lane: h.Lane}
		}
	}
}

// heldAt returns where a position is among the held rows, or would be.
func (s *Store) heldAt(p store.Position) (i int, there bool) {
	return slices.BinarySearchFunc(s.held, p, func(r heldRow, p store.Position) int { return cmp.Compare(r.Position.Seq, p.Seq) })
}

// release marks rows as published, gives their lanes back and forgets those that
// are empty now.
func (s *Store) release(rows []store.Held) {
	now := time.Now()
	for _, r := range rows {
		if i, there := s.heldAt(r.Position); there {
			s.held[i].released = now
		}
	}
	for _, r := range rows {
		k := lane{r.Message.Channel, r.Lane.Name}
		if l := s.lanes[k]; l != nil {
			l.taken = time.Time{}
		}
		s.forgetEmpty(k)
	}
}

// forgetEmpty forgets a lane of which nothing is held any more.
func (s *Store) forgetEmpty(k lane) {
	if !slices.ContainsFunc(s.held, func(h heldRow) bool {
		return h.released.IsZero() && h.Message.Channel == k.channel && h.Lane.Name == k.name
	}) {
		delete(s.lanes, k)
	}
}

// Blocked reports which lanes have held rows.
func (s *Store) Blocked(_ context.Context, _ store.Term, lanes []store.Lane) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocked := make([]bool, len(lanes))
	for i, l := range lanes {
		_, blocked[i] = s.lanes[lane{l.Channel, l.Name}]
	}
	return blocked, nil
}

// Due returns held rows of lanes that are to be tried again, and takes those
// lanes.
func (s *Store) Due(_ context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) (rows []store.Held, next time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "take held messages"); err != nil {
		return nil, next, err
	}
	now := time.Now()
	for k, l := range s.lanes {
		if !slices.Contains(skip, k.channel) && l.Retry.After(now) && (next.IsZero() || l.Retry.Before(next)) {
			next = l.Retry
		}
	}
	all := s.unpublished(func(h store.Held) bool {
		return !slices.Contains(skip, h.Lane.Channel) && !h.Lane.Retry.After(now)
	})
	slices.SortStableFunc(all, func(a, b store.Held) int {
		return cmp.Or(a.Lane.Retry.Compare(b.Lane.Retry), cmp.Compare(a.Lane.Channel, b.Lane.Channel), cmp.Compare(a.Lane.Name, b.Lane.Name))
	})
	bytes := 0
	for _, h := range all {
		if len(rows) == max.Rows || bytes >= max.Bytes {
			break
		}
		bytes += len(h.Message.Body)
		rows = append(rows, h)
		s.lanes[lane{h.Lane.Channel, h.Lane.Name}].taken = now.Add(take)
	}
	return rows, next, nil
}

// unpublished returns copies of held rows, with their lanes as they are now.
func (s *Store) unpublished(want func(store.Held) bool) (all []store.Held) {
	for _, r := range s.held {
		if !r.released.IsZero() {
			continue
		}
		h := r.Held
		h.Lane = s.lanes[lane{h.Message.Channel, h.Lane.Name}].Lane
		if want(h) {
			h.Message = h.Message.Clone()
			all = append(all, h)
		}
	}
	return all
}

// Browse returns held rows for people to look at.
func (s *Store) Browse(_ context.Context, _ int, after store.Position, max int) ([]store.Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.unpublished(func(h store.Held) bool { return h.Position.Seq > after.Seq })
	return all[:min(len(all), max)], nil
}
