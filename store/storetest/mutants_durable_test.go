package storetest_test

import (
	"context"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

const reopenCase = "Reopened_database_has_what_was_committed"

// forgetting changes a lab when it is opened again; empty has nothing in it.
func forgetting(do func(l *lab, empty *memstore.Store)) mutant {
	return mutant{by: reopenCase, plant: func(l *lab) {
		l.reopened = func() { do(l, memstore.New()) }
	}}
}

// Faults in what is there after Close and Open. Those that only the death of a
// process shows are not planted: the lab does not outlive its own.
var durableMutants = map[string]mutant{
	"forgets the outbox when it is closed": forgetting(func(l *lab, empty *memstore.Store) { l.next = empty.Next }),
	"forgets the inbox when it is closed":  forgetting(func(l *lab, empty *memstore.Store) { l.lookup = empty.Lookup }),
	"forgets tokens when it is closed":     forgetting(func(l *lab, empty *memstore.Store) { l.resolve = empty.Resolve }),
	"forgets leases when it is closed": forgetting(func(l *lab, empty *memstore.Store) {
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			return empty.Resume(ctx, t, service)
		}
	}),
	"forgets the cursor when it is closed": forgetting(func(l *lab, _ *memstore.Store) {
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			c, err := l.inner.Resume(ctx, t, service)
			c.Position = store.Position{}
			return c, err
		}
	}),
	"forgets what is held when it is closed": forgetting(func(l *lab, _ *memstore.Store) {
		l.resume = func(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
			c, err := l.inner.Resume(ctx, t, service)
			c.Channels = nil
			return c, err
		}
	}),
}
