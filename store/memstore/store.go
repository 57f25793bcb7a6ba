package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// A Store is a database in memory. It is safe for concurrent use.
type Store struct {
	writing chan struct{} // one slot: the transaction that is open
	signal  store.Signal

	mu      sync.Mutex // what is committed:
	values  map[string][]byte
	rows    []row // in the order of seq
	seq     int64
	later   []delayed // in the order of n
	n       int64
	tokens  map[string]time.Time
	inbox   map[store.Key]handled
	leases  map[string]store.Lease
	cursor  *cursor
	held    []heldRow // in the order of position
	lanes   map[lane]*laneState
	service string
}

type row struct {
	store.Row
	written time.Time
}

type delayed struct {
	n int64
	m *driver.Message
}

type handled struct {
	store.InboxRow
	since time.Time
}

type cursor struct {
	position    store.Position
	incarnation string
}

var _ store.DB[*Tx] = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{
		writing: make(chan struct{}, 1),
		values:  map[string][]byte{},
		tokens:  map[string]time.Time{},
		inbox:   map[store.Key]handled{},
		leases:  map[string]store.Lease{},
		lanes:   map[lane]*laneState{},
	}
}

// Get returns the committed value of a key.
func (s *Store) Get(key string) (value []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	return slices.Clone(v), ok
}

// Keys returns the committed keys, sorted.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.values))
}

// A Tx is a transaction: a view of the values with its own changes. One
// goroutine uses it at a time; after its end it changes nothing.
type Tx struct {
	s     *Store
	now   changes
	saved []savepoint
	ended bool
}

// changes are what a transaction has done so far.
type changes struct {
	values map[string][]byte // nil: deleted
	inbox  map[store.Key]*handled
	w      store.Writes
	cancel []int64
}

type savepoint struct {
	name string
	changes
}

func (c changes) clone() changes {
	c.values, c.inbox = maps.Clone(c.values), maps.Clone(c.inbox)
	c.w.Messages, c.w.Later = slices.Clone(c.w.Messages), slices.Clone(c.w.Later)
	c.cancel = slices.Clone(c.cancel)
	return c
}

// Get returns the value of a key as the transaction sees it.
func (tx *Tx) Get(key string) (value []byte, ok bool) {
	if v, changed := tx.now.values[key]; changed {
		return slices.Clone(v), v != nil
	}
	return tx.s.Get(key)
}

// Put sets the value of a key.
func (tx *Tx) Put(key string, value []byte) {
	tx.now.values[key] = append([]byte{}, value...)
}

// Delete removes a key.
func (tx *Tx) Delete(key string) { tx.now.values[key] = nil }

// Begin waits for the transaction before it and begins one.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("begin: %w", ctx.Err())
	}
	return &Tx{s: s, now: changes{values: map[string][]byte{}, inbox: map[store.Key]*handled{}}}, nil
}

var errEnded = errors.New("transaction has ended")

// Commit writes w and commits. If ctx has ended, it rolls back.
func (s *Store) Commit(ctx context.Context, tx *Tx, w store.Writes) error {
	if tx.ended {
		return fmt.Errorf("commit: %w", errEnded)
	}
	defer s.end(tx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := s.Write(ctx, tx, w); err != nil {
		return err
	}
	for _, r := range w.Replies {
		h, ok := tx.row(r.Key)
		if !ok {
			continue
		}
		h.Reply = driver.Reply{Status: r.Reply.Status, ContentType: r.Reply.ContentType, Body: slices.Clone(r.Reply.Body)}
		tx.now.inbox[r.Key] = &h
	}
	s.mu.Lock()
	if _, taken := s.tokens[w.Token]; taken && w.Token != "" {
		s.mu.Unlock()
		return fmt.Errorf("commit: token %s is taken: the transaction was given up", w.Token)
	}
	s.apply(&tx.now, w.Token)
	s.mu.Unlock()
	if len(tx.now.w.Messages)+len(tx.now.w.Later) > 0 {
		s.signal.Notify()
	}
	return nil
}

// apply makes changes the committed state.
func (s *Store) apply(c *changes, token string) {
	now := time.Now()
	for k, v := range c.values {
		if v == nil {
			delete(s.values, k)
		} else {
			s.values[k] = v
		}
	}
	for k, h := range c.inbox {
		if h == nil {
			delete(s.inbox, k)
		} else {
			s.inbox[k] = *h
		}
	}
	s.later = slices.DeleteFunc(s.later, func(d delayed) bool { return slices.Contains(c.cancel, d.n) })
	for _, m := range c.w.Messages {
		s.append(m, now)
	}
	for _, m := range c.w.Later {
		s.n++
		s.later = append(s.later, delayed{s.n, m})
	}
	if token != "" {
		s.tokens[token] = now
	}
}

func (s *Store) append(m *driver.Message, now time.Time) {
	s.seq++
	s.rows = append(s.rows, row{store.Row{Position: store.Position{Seq: s.seq}, Message: m}, now})
}

func (s *Store) end(tx *Tx) {
	tx.ended = true
	<-s.writing
}

// Rollback undoes the transaction.
func (s *Store) Rollback(_ context.Context, tx *Tx) error {
	if !tx.ended {
		s.end(tx)
	}
	return nil
}

// Savepoint begins a part of the transaction that can be undone alone.
func (s *Store) Savepoint(_ context.Context, tx *Tx, name string) error {
	if tx.ended {
		return fmt.Errorf("savepoint %s: %w", name, errEnded)
	}
	tx.saved = append(tx.saved, savepoint{name, tx.now.clone()})
	return nil
}

func (tx *Tx) find(name string) (int, error) {
	if tx.ended {
		return 0, fmt.Errorf("savepoint %s: %w", name, errEnded)
	}
	for i := len(tx.saved) - 1; i >= 0; i-- {
		if tx.saved[i].name == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no savepoint %s", name)
}

// RollbackTo undoes what was done since the savepoint.
func (s *Store) RollbackTo(_ context.Context, tx *Tx, name string) error {
	i, err := tx.find(name)
	if err != nil {
		return err
	}
	tx.now = tx.saved[i].clone()
	tx.saved = tx.saved[:i+1]
	return nil
}

// Release forgets a savepoint.
func (s *Store) Release(_ context.Context, tx *Tx, name string) error {
	i, err := tx.find(name)
	if err != nil {
		return err
	}
	tx.saved = tx.saved[:i]
	return nil
}

// Write takes copies of messages into the transaction.
func (s *Store) Write(_ context.Context, tx *Tx, w store.Writes) error {
	if tx.ended {
		return fmt.Errorf("write outbox: %w", errEnded)
	}
	for _, list := range [][]*driver.Message{w.Messages, w.Later} {
		for _, m := range list {
			// What could not be stored elsewhere is not stored here.
			if _, err := store.AppendHeaders(nil, m); err != nil {
				return fmt.Errorf("write outbox: %w", err)
			}
		}
	}
	for _, m := range w.Messages {
		tx.now.w.Messages = append(tx.now.w.Messages, m.Clone())
	}
	for _, m := range w.Later {
		tx.now.w.Later = append(tx.now.w.Later, m.Clone())
	}
	return nil
}

// Cancel takes back messages that were to be sent later.
func (s *Store) Cancel(_ context.Context, tx *Tx, source string, ids []string) (int, error) {
	if tx.ended {
		return 0, fmt.Errorf("cancel: %w", errEnded)
	}
	matches := func(m *driver.Message) bool { return m.Source == source && slices.Contains(ids, m.ID) }
	before := len(tx.now.w.Later)
	tx.now.w.Later = slices.DeleteFunc(tx.now.w.Later, matches)
	n := before - len(tx.now.w.Later)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.later {
		if matches(d.m) && !slices.Contains(tx.now.cancel, d.n) {
			tx.now.cancel = append(tx.now.cancel, d.n)
			n++
		}
	}
	return n, nil
}

// Resolve inserts the token again, after the transaction that may be writing
// it.
func (s *Store) Resolve(ctx context.Context, token string) (committed bool, err error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer s.end(tx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.tokens[token]; taken {
		_, ours := s.tokens[token+fenceMark]
		return !ours, nil
	}
	s.tokens[token], s.tokens[token+fenceMark] = time.Now(), time.Now()
	return false, nil
}

// fenceMark and a token make the token that Resolve puts beside the one that it
// inserts itself.
const fenceMark = " fenced"

// Forget deletes old tokens.
func (s *Store) Forget(_ context.Context, before time.Time, max int) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, at := range s.tokens {
		if n < max && at.Before(before) {
			delete(s.tokens, token)
			n++
		}
	}
	return n, nil
}

// Signal is notified after each commit that wrote messages.
func (s *Store) Signal() *store.Signal { return &s.signal }

// Migrations are none.
func (s *Store) Migrations() []store.Migration { return nil }

// Migrate has nothing to do.
func (s *Store) Migrate(context.Context) error { return nil }
