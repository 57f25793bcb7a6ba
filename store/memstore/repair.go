package memstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// RetryHeld makes lanes due at once.
func (s *Store) RetryHeld(_ context.Context, channel, name string) (n int, err error) {
	s.mu.Lock()
	for k, l := range s.lanes {
		if (channel == "" || k.channel == channel) && (name == "" || k.name == name) {
			l.Retry = time.Time{}
			n++
		}
	}
	s.mu.Unlock()
	s.signal.Notify()
	return n, nil
}

// Edit replaces what a held message says, there and in the outbox.
func (s *Store) Edit(_ context.Context, _ int, p store.Position, m *driver.Message) error {
	if _, err := store.AppendHeaders(nil, m); err != nil {
		return fmt.Errorf("edit held message: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.mayRepair("edit held message", p)
	if err != nil {
		return err
	}
	if l == nil {
		return fmt.Errorf("edit held message: %w", store.ErrNotHeld)
	}
	i, _ := s.heldAt(p)
	now := m.Clone()
	now.ID, now.Channel, now.Key = s.held[i].Message.ID, s.held[i].Message.Channel, s.held[i].Message.Key
	s.held[i].Message = now
	if n := s.from(p) - 1; n >= 0 && s.rows[n].Position.Seq == p.Seq {
		s.rows[n].Message = now.Clone()
	}
	l.Retry = time.Time{}
	s.signal.Notify()
	return nil
}

// Discard deletes held messages, there and in the outbox.
func (s *Store) Discard(_ context.Context, _ int, ps []store.Position) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ps {
		if _, err := s.mayRepair("discard held messages", p); err != nil {
			return 0, err
		}
	}
	for _, p := range ps {
		l, _ := s.mayRepair("", p)
		if l == nil {
			continue
		}
		i, _ := s.heldAt(p)
		k := lane{s.held[i].Message.Channel, s.held[i].Lane.Name}
		s.held = slices.Delete(s.held, i, i+1)
		if j := s.from(p) - 1; j >= 0 && s.rows[j].Position.Seq == p.Seq {
			s.rows = slices.Delete(s.rows, j, j+1)
		}
		l.Retry = time.Time{}
		s.forgetEmpty(k)
		n++
	}
	s.signal.Notify()
	return n, nil
}

// mayRepair returns the lane of a held row, nil if none is held at a position;
// the lock is the caller's.
func (s *Store) mayRepair(doing string, p store.Position) (*laneState, error) {
	i, there := s.heldAt(p)
	if !there || !s.held[i].released.IsZero() {
		return nil, nil
	}
	h := &s.held[i]
	l := s.lanes[lane{h.Message.Channel, h.Lane.Name}]
	if l.taken.After(time.Now()) {
		return nil, fmt.Errorf("%s: message %d of channel %s: %w", doing, p.Seq, h.Message.Channel, store.ErrTaken)
	}
	return l, nil
}
