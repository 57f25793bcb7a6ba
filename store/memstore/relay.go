package memstore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// Acquire takes or extends a lease.
func (s *Store) Acquire(_ context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	l := s.leases[name]
	lasts := l.Valid(now)
	l.Ahead = 0
	if lasts && l.Holder != holder {
		if l.Until.Sub(now) <= store.MaxLease(ttl) {
			return store.Lease{}, fmt.Errorf("lease %s: %w", name, store.ErrLeased)
		}
		l.Ahead, lasts = l.Until.Sub(now), false
	}
	if !lasts || l.Term == 0 {
		l.Term++
	}
	l.Name, l.Holder, l.Until = name, holder, now.Add(ttl)
	s.leases[name] = l
	return l, nil
}

// Resign ends a lease early.
func (s *Store) Resign(_ context.Context, l store.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.leases[l.Name]; now.Holder == l.Holder && now.Term == l.Term {
		now.Until = time.Time{}
		s.leases[l.Name] = now
	}
	return nil
}

// Shards is 1.
func (s *Store) Shards() int { return 1 }

// fenced returns ErrFenced unless the term holds; the lock is the caller's.
func (s *Store) fenced(t store.Term, doing string) error {
	l := s.leases[t.Name]
	if l.Holder == t.Holder && l.Term == t.Term && l.Valid(time.Now()) {
		return nil
	}
	return fmt.Errorf("%s: term %d of %s: %w", doing, t.Term, t.Name, store.ErrFenced)
}

// Resume begins a term.
func (s *Store) Resume(_ context.Context, t store.Term, service string) (store.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "resume relay"); err != nil {
		return store.Cursor{}, err
	}
	if s.cursor == nil {
		s.cursor, s.service = &cursor{}, service
	}
	if s.service != service {
		return store.Cursor{}, fmt.Errorf("resume relay: %w: it is %s's, not %s's: give each service its own store", store.ErrOwner, s.service, service)
	}
	return s.where(), nil
}

func (s *Store) where() store.Cursor {
	c := store.Cursor{Position: s.cursor.position, Incarnation: s.cursor.incarnation}
	for l := range s.lanes {
		if !slices.Contains(c.Channels, l.channel) {
			c.Channels = append(c.Channels, l.channel)
		}
	}
	return c
}

// from returns the index of the first row after a position.
func (s *Store) from(p store.Position) int {
	return sort.Search(len(s.rows), func(i int) bool { return s.rows[i].Position.Seq > p.Seq })
}

// Next returns the rows after a position.
func (s *Store) Next(_ context.Context, _ store.Term, after, _ store.Position, max store.Limit) (store.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page store.Page
	bytes := 0
	for _, r := range s.rows[s.from(after):] {
		if len(page.Rows) == max.Rows || bytes >= max.Bytes {
			break
		}
		bytes += len(r.Message.Body)
		page.Rows = append(page.Rows, store.Row{Position: r.Position, Message: r.Message.Clone()})
	}
	return page, nil
}

// Advance moves the cursor, releases, and sets aside.
func (s *Store) Advance(_ context.Context, t store.Term, p store.Progress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "advance relay"); err != nil {
		return err
	}
	s.cursor.position.Seq = max(s.cursor.position.Seq, p.To.Seq)
	if p.Incarnation != "" {
		s.cursor.incarnation = p.Incarnation
	}
	s.release(p.Release)
	for _, l := range p.Retry {
		if now := s.lanes[lane{l.Channel, l.Name}]; now != nil {
			*now = laneState{Lane: l}
		}
	}
	s.hold(p.Hold)
	return nil
}

// Promote moves due messages into the outbox.
func (s *Store) Promote(ctx context.Context, t store.Term, max int) (moved int, next time.Time, err error) {
	// No transaction may be cancelling them meanwhile.
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, next, err
	}
	defer s.end(tx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "promote"); err != nil {
		return 0, next, err
	}
	now := time.Now()
	slices.SortStableFunc(s.later, func(a, b delayed) int { return a.m.Due.Compare(b.m.Due) })
	for moved < max && moved < len(s.later) && !s.later[moved].m.Due.After(now) {
		s.append(s.later[moved].m, now)
		moved++
	}
	s.later = slices.Delete(s.later, 0, moved)
	if len(s.later) > 0 {
		next = s.later[0].m.Due
	}
	return moved, next, nil
}

// Rewind sets the cursor before everything that is still there.
func (s *Store) Rewind(_ context.Context, t store.Term, incarnation string) (store.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "rewind relay"); err != nil {
		return store.Cursor{}, err
	}
	s.cursor.position, s.cursor.incarnation = store.Position{}, incarnation
	for i := range s.held {
		h := &s.held[i]
		h.released = time.Time{}
		k := lane{h.Message.Channel, h.Lane.Name}
		if _, ok := s.lanes[k]; !ok {
			s.lanes[k] = &laneState{Lane: store.Lane{Channel: k.channel, Name: k.name}}
		}
	}
	return s.where(), nil
}

// Retire deletes published rows.
func (s *Store) Retire(_ context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fenced(t, "retire"); err != nil {
		return 0, err
	}
	n := min(s.from(store.Position{Seq: min(r.Through.Seq, s.cursor.position.Seq)}), max)
	s.rows = slices.Delete(s.rows, 0, n)
	s.held = slices.DeleteFunc(s.held, func(h heldRow) bool {
		if n < max && !h.released.IsZero() && h.released.Before(r.Released) {
			n++
			return true
		}
		return false
	})
	return n, nil
}

// Stats counts.
func (s *Store) Stats(context.Context, int) (store.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p store.Position
	if s.cursor != nil {
		p = s.cursor.position
	}
	i := s.from(p)
	st := store.Stats{Backlog: int64(len(s.rows) - i), Later: int64(len(s.later)), Service: s.service}
	if i < len(s.rows) {
		st.Oldest = s.rows[i].written
	}
	for _, h := range s.held {
		if h.released.IsZero() {
			st.Held++
		}
	}
	return st, nil
}
