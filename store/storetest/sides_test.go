package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

// sideCases are those that sides takes: it has neither parts nor an inbox.
const sideCases = "Next_.*|Write_in.*|Rollback_leaves_nothing|Writers_.*|Cursor_.*"

// sides is a store whose transactions are open side by side, as those of a
// database with locks of rows are: each has a number from its first change, and
// each message one from when it was written. A relay sees rows in the order of
// commits; a mutant orders them by the numbers.
type sides struct {
	*memstore.Store // what is committed; the relay's side

	reader func(s *sides, after store.Position) []sideRow // nil: in the order of commits

	mu    sync.Mutex
	xid   int64
	seq   int64
	open  map[int64]bool // numbers of transactions
	locks map[string]chan struct{}
	rows  []sideRow // committed
}

// A sideRow is a message with its numbers.
type sideRow struct {
	xid, seq int64
	m        *driver.Message
}

type sideTx struct {
	xid    int64 // 0: it has changed nothing
	rows   []sideRow
	values map[string]int64
	ended  bool
}

func newSides(m mutant) *sides {
	s := &sides{Store: memstore.New(), open: map[int64]bool{}, locks: map[string]chan struct{}{}}
	m.side(s)
	return s
}

var _ store.DB[*sideTx] = (*sides)(nil)

func (s *sides) database() storetest.Database[*sideTx] {
	return storetest.Database[*sideTx]{
		DB: s, Count: s.count, Close: func() error { return nil },
		Counts: func(context.Context) (map[string]int64, error) { return counts(s.Store), nil },
	}
}

func (s *sides) Begin(context.Context) (*sideTx, error) {
	return &sideTx{values: map[string]int64{}}, nil
}

// change gives a transaction its number.
func (s *sides) change(t *sideTx) {
	if t.xid == 0 {
		s.xid++
		t.xid = s.xid
		s.open[t.xid] = true
	}
}

func (s *sides) count(ctx context.Context, t *sideTx, key string) (int64, error) {
	s.mu.Lock()
	s.change(t)
	lock := s.locks[key]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[key] = lock
	}
	s.mu.Unlock()
	if _, mine := t.values[key]; !mine {
		select {
		case lock <- struct{}{}:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		t.values[key] = number(s.Get(key))
	}
	t.values[key]++
	return t.values[key], nil
}

func (s *sides) Write(_ context.Context, t *sideTx, w store.Writes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.ended {
		return errors.New("transaction has ended")
	}
	for _, m := range w.Messages {
		if _, err := store.AppendHeaders(nil, m); err != nil {
			return err
		}
		s.change(t)
		s.seq++
		t.rows = append(t.rows, sideRow{t.xid, s.seq, m.Clone()})
	}
	return nil
}

func (s *sides) Commit(ctx context.Context, t *sideTx, w store.Writes) error {
	err := errors.Join(ctx.Err(), s.Write(ctx, t, w))
	if err != nil {
		return errors.Join(err, s.Rollback(ctx, t))
	}
	defer s.end(t)
	inner, err := s.Store.Begin(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := store.Writes{Token: w.Token}
	for _, r := range t.rows {
		all.Messages = append(all.Messages, r.m)
	}
	for key, n := range t.values {
		for range n - number(inner.Get(key)) {
			_, _ = count(ctx, inner, key)
		}
	}
	if err := s.Store.Commit(ctx, inner, all); err != nil {
		return err
	}
	s.rows = append(s.rows, t.rows...)
	return nil
}

func (s *sides) Rollback(_ context.Context, t *sideTx) error {
	s.end(t)
	return nil
}

// end gives the locks back.
func (s *sides) end(t *sideTx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	delete(s.open, t.xid)
	for key := range t.values {
		<-s.locks[key]
	}
}

// xmin is the lowest number of a transaction that is open, or the next.
func (s *sides) xmin() int64 {
	lowest := s.xid + 1
	for xid := range s.open {
		lowest = min(lowest, xid)
	}
	return lowest
}

func (s *sides) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	if s.reader == nil {
		return s.Store.Next(ctx, t, after, done, max)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var page store.Page
	for _, r := range s.reader(s, after) {
		if len(page.Rows) < max.Rows {
			page.Rows = append(page.Rows, store.Row{Position: store.Position{Window: r.xid, Seq: r.seq}, Message: r.m.Clone()})
		}
	}
	return page, nil
}

// visible returns the committed rows that a reader wants, in its order.
func (s *sides) visible(want func(sideRow) bool, order func(a, b sideRow) int) []sideRow {
	all := slices.DeleteFunc(slices.Clone(s.rows), func(r sideRow) bool { return !want(r) })
	slices.SortFunc(all, order)
	return all
}

func (s *sides) Savepoint(context.Context, *sideTx, string) error  { return errors.ErrUnsupported }
func (s *sides) RollbackTo(context.Context, *sideTx, string) error { return errors.ErrUnsupported }
func (s *sides) Release(context.Context, *sideTx, string) error    { return errors.ErrUnsupported }

func (s *sides) Cancel(context.Context, *sideTx, string, []string) (int, error) {
	return 0, errors.ErrUnsupported
}

func (s *sides) Insert(context.Context, *sideTx, []store.Entry) ([]store.InboxRow, error) {
	return nil, errors.ErrUnsupported
}

func (s *sides) Undo(context.Context, *sideTx, []store.Entry, []store.InboxRow) error {
	return errors.ErrUnsupported
}

func (s *sides) Mark(context.Context, *sideTx, []store.Entry, store.State) ([]store.InboxRow, error) {
	return nil, errors.ErrUnsupported
}

func (s *sides) Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
	return s.Store.Lookup(ctx, keys)
}

func (s *sides) Purge(ctx context.Context, before time.Time, max int) (int, error) {
	return s.Store.Purge(ctx, before, max)
}
