package storetest_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

type tx = *memstore.Tx

// A lab is a store in memory that can do all that the suite asks for but outlive
// its process. Its methods go through functions; a mutant replaces some, and
// without one the lab passes.
type lab struct {
	inner *memstore.Store

	begin                          func(context.Context) (tx, error)
	commit                         func(context.Context, tx, store.Writes) error
	rollback                       func(context.Context, tx) error
	savepoint, rollbackTo, release func(context.Context, tx, string) error
	write                          func(context.Context, tx, store.Writes) error
	cancel                         func(context.Context, tx, string, []string) (int, error)
	resolve                        func(context.Context, string) (bool, error)
	forget                         func(context.Context, time.Time, int) (int, error)
	signal                         func() *store.Signal
	enter                          func(context.Context, tx, []store.Entry) ([]store.InboxRow, error)
	leave                          func(context.Context, tx, []store.Entry, []store.InboxRow) error
	mark                           func(context.Context, tx, []store.Entry, store.State) ([]store.InboxRow, error)
	lookup                         func(context.Context, []store.Key) ([]store.InboxRow, error)
	purge                          func(context.Context, time.Time, int) (int, error)
	acquire                        func(context.Context, string, string, time.Duration) (store.Lease, error)
	resign                         func(context.Context, store.Lease) error
	resume                         func(context.Context, store.Term, string) (store.Cursor, error)
	next                           func(context.Context, store.Term, store.Position, store.Position, store.Limit) (store.Page, error)
	advance                        func(context.Context, store.Term, store.Progress) error
	promote                        func(context.Context, store.Term, int) (int, time.Time, error)
	rewind                         func(context.Context, store.Term, string) (store.Cursor, error)
	retire                         func(context.Context, store.Term, store.Retirement, int) (int, error)
	stats                          func(context.Context, int) (store.Stats, error)
	blocked                        func(context.Context, store.Term, []store.Lane) ([]bool, error)
	due                            func(context.Context, store.Term, []string, store.Limit, time.Duration) ([]store.Held, time.Time, error)
	retryHeld                      func(context.Context, string, string) (int, error)
	browse                         func(context.Context, int, store.Position, int) ([]store.Held, error)
	edit                           func(context.Context, int, store.Position, *driver.Message) error
	discard                        func(context.Context, int, []store.Position) (int, error)
	migrate                        func(context.Context) error
	count                          func(context.Context, tx, string) (int64, error)
	end                            func(context.Context, tx)

	reopened func() // it was opened again

	stores func(*driver.Message) // what is made of a message that is written
	reads  func(*store.Row)      // what is made of a row that is read
	keys   func(*store.Key)      // what is made of a key of the inbox

	mu     sync.Mutex
	spoilt map[string]bool // ids of messages
	cut    map[tx]bool     // transactions without a connection
}

var _ store.DB[tx] = (*lab)(nil)

func newLab(m mutant) *lab {
	s := memstore.New()
	l := &lab{
		inner: s,
		begin: s.Begin, commit: s.Commit, rollback: s.Rollback, savepoint: s.Savepoint, rollbackTo: s.RollbackTo, release: s.Release,
		write: s.Write, cancel: s.Cancel, resolve: s.Resolve, forget: s.Forget, signal: s.Signal,
		enter: s.Insert, leave: s.Undo, mark: s.Mark, lookup: s.Lookup, purge: s.Purge,
		acquire: s.Acquire, resign: s.Resign, resume: s.Resume, next: s.Next, advance: s.Advance, promote: s.Promote,
		rewind: s.Rewind, retire: s.Retire, stats: s.Stats, blocked: s.Blocked, due: s.Due, retryHeld: s.RetryHeld,
		browse: s.Browse, edit: s.Edit, discard: s.Discard, migrate: s.Migrate,
		count: count, reopened: func() {}, stores: func(*driver.Message) {}, keys: func(*store.Key) {},
		spoilt: map[string]bool{}, cut: map[tx]bool{},
	}
	l.reads = l.read
	l.end = func(ctx context.Context, t tx) { _ = s.Rollback(ctx, t) }
	if m.plant != nil {
		m.plant(l)
	}
	return l
}

// database is l as the suite uses it.
func (l *lab) database() storetest.Database[tx] {
	return storetest.Database[tx]{
		DB: l,
		Count: func(ctx context.Context, t tx, key string) (int64, error) {
			if l.isCut(t) {
				return 0, errCut
			}
			return l.count(ctx, t, key)
		},
		Counts: func(context.Context) (map[string]int64, error) { return counts(l.inner), nil },
		Spoil: func(_ context.Context, id string) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.spoilt[id] = true
			return nil
		},
		End: func(ctx context.Context, t tx) { l.end(ctx, t) },
		Cut: func(ctx context.Context, t tx) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.cut[t] = true
			return l.inner.Rollback(ctx, t)
		},
		Close: func() error { return nil },
	}
}

func count(_ context.Context, t tx, key string) (int64, error) {
	n := number(t.Get(key)) + 1
	t.Put(key, strconv.AppendInt(nil, n, 10))
	return n, nil
}

func counts(s *memstore.Store) map[string]int64 {
	all := map[string]int64{}
	for _, key := range s.Keys() {
		all[key] = number(s.Get(key))
	}
	return all
}

func number(text []byte, ok bool) int64 {
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		panic(err) // count writes numbers
	}
	return n
}

var errCut = fmt.Errorf("the connection is lost: %w", store.ErrUnknown)

func (l *lab) isCut(t tx) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[t]
}

// read makes a row one that cannot be read, if somebody has spoilt it.
func (l *lab) read(r *store.Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := r.Message
	if !l.spoilt[m.ID] {
		return
	}
	text, err := store.AppendHeaders([]byte("spoilt\n"), m)
	if err != nil {
		panic(err) // it was written
	}
	r.Message = &driver.Message{ID: m.ID, Channel: m.Channel, Key: m.Key, Body: m.Body}
	r.Read(string(text))
}

// stored are the messages as they are written.
func (l *lab) stored(w store.Writes) store.Writes {
	for _, list := range []*[]*driver.Message{&w.Messages, &w.Later} {
		all := make([]*driver.Message, len(*list))
		for i, m := range *list {
			all[i] = m.Clone()
			l.stores(all[i])
		}
		*list = all
	}
	kept := append([]store.KeptReply{}, w.Replies...)
	for i := range kept {
		l.keys(&kept[i].Key)
	}
	w.Replies = kept
	return w
}

func (l *lab) entries(entries []store.Entry) []store.Entry {
	all := append([]store.Entry{}, entries...)
	for i := range all {
		l.keys(&all[i].Key)
	}
	return all
}
