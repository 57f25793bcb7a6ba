package memstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// row returns an inbox row as the transaction sees it.
func (tx *Tx) row(k store.Key) (handled, bool) {
	if h, changed := tx.now.inbox[k]; changed {
		if h == nil {
			return handled{}, false
		}
		return *h, true
	}
	tx.s.mu.Lock()
	defer tx.s.mu.Unlock()
	h, ok := tx.s.inbox[k]
	return h, ok
}

// Insert inserts a row for each entry that has none.
func (s *Store) Insert(_ context.Context, tx *Tx, entries []store.Entry) ([]store.InboxRow, error) {
	if tx.ended {
		return nil, fmt.Errorf("enter inbox: %w", errEnded)
	}
	found := make([]store.InboxRow, len(entries))
	for i, e := range entries {
		h, ok := tx.row(e.Key)
		found[i] = h.InboxRow
		switch {
		case !ok:
			h = handled{}
		case h.State == store.Released, h.State == store.Dead && e.Requeues > h.Requeues:
			found[i].State = store.Released
		default:
			continue
		}
		h.State, h.Requeues, h.since = store.Handled, max(h.Requeues, e.Requeues), later(h.since, e.Since)
		tx.now.inbox[e.Key] = &h
	}
	return found, nil
}

// Undo undoes Insert for some entries.
func (s *Store) Undo(_ context.Context, tx *Tx, entries []store.Entry, found []store.InboxRow) error {
	if tx.ended {
		return fmt.Errorf("leave inbox: %w", errEnded)
	}
	for i, e := range entries {
		switch h, _ := tx.row(e.Key); found[i].State {
		case "":
			tx.now.inbox[e.Key] = nil
		case store.Released:
			h.State = store.Released
			tx.now.inbox[e.Key] = &h
		}
	}
	return nil
}

// Mark sets the state of rows that are not handled.
func (s *Store) Mark(_ context.Context, tx *Tx, entries []store.Entry, state store.State) ([]store.InboxRow, error) {
	if tx.ended {
		return nil, fmt.Errorf("mark inbox: %w", errEnded)
	}
	found := make([]store.InboxRow, len(entries))
	for i, e := range entries {
		h, _ := tx.row(e.Key)
		found[i] = h.InboxRow
		if h.State == store.Handled || h.State == store.Cancelled && state == store.Dead {
			continue
		}
		h.State, h.Requeues, h.since = state, max(h.Requeues, e.Requeues), later(h.since, e.Since)
		tx.now.inbox[e.Key] = &h
	}
	return found, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Lookup returns the committed rows of keys.
func (s *Store) Lookup(_ context.Context, keys []store.Key) ([]store.InboxRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]store.InboxRow, len(keys))
	for i, k := range keys {
		found[i] = s.inbox[k].InboxRow
		found[i].Reply.Body = slices.Clone(found[i].Reply.Body)
	}
	return found, nil
}

// Purge deletes old handled rows.
func (s *Store) Purge(_ context.Context, before time.Time, max int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []store.Key
	for k, h := range s.inbox {
		if h.State == store.Handled && h.since.Before(before) {
			old = append(old, k)
		}
	}
	slices.SortFunc(old, func(a, b store.Key) int { return s.inbox[a].since.Compare(s.inbox[b].since) })
	old = old[:min(len(old), max)]
	for _, k := range old {
		delete(s.inbox, k)
	}
	return len(old), nil
}
