package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

const (
	leaseCase = "Lease_has_one_holder"
	aheadCase = "Lease_of_a_wrong_clock_is_taken_over"
	termCase  = "Lease_that_has_passed_begins_a_new_term"
)

// acquiring changes how Acquire is asked and what it returns.
func acquiring(ask func(name, holder *string, ttl *time.Duration), change func(*store.Lease, error) error) func(*lab) {
	return func(l *lab) {
		l.acquire = func(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
			if ask != nil {
				ask(&name, &holder, &ttl)
			}
			lease, err := l.inner.Acquire(ctx, name, holder, ttl)
			if change != nil {
				err = change(&lease, err)
			}
			return lease, err
		}
	}
}

var leaseMutants = map[string]mutant{
	"lets two hold a lease": {by: leaseCase, plant: func(l *lab) {
		l.acquire = func(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
			lease, err := l.inner.Acquire(ctx, name, holder, ttl)
			if errors.Is(err, store.ErrLeased) {
				return store.Lease{Name: name, Holder: holder, Term: 1, Until: time.Now().Add(ttl)}, nil
			}
			return lease, err
		}
	}},
	"has one lease for all names":             {by: leaseCase, plant: acquiring(func(name, _ *string, _ *time.Duration) { *name = "l" }, nil)},
	"lets a lease last longer than was asked": {by: leaseCase, plant: acquiring(func(_, _ *string, ttl *time.Duration) { *ttl *= 2 }, nil)},
	"begins a term at each extension": {by: leaseCase, plant: func(l *lab) {
		var terms int64
		acquiring(nil, func(lease *store.Lease, err error) error {
			terms++
			lease.Term = terms
			return err
		})(l)
	}},
	"keeps the lease of one who resigned": {by: leaseCase, plant: func(l *lab) {
		l.resign = func(context.Context, store.Lease) error { return nil }
	}},
	"resigns the lease of another": {by: leaseCase, plant: func(l *lab) {
		var mu sync.Mutex
		now := map[string]store.Lease{}
		l.acquire = func(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
			lease, err := l.inner.Acquire(ctx, name, holder, ttl)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				now[name] = lease
			}
			return lease, err
		}
		l.resign = func(ctx context.Context, lease store.Lease) error {
			mu.Lock()
			defer mu.Unlock()
			return l.inner.Resign(ctx, now[lease.Name])
		}
	}},
	"goes on with a term that has passed": {by: termCase, plant: func(l *lab) {
		first := map[string]int64{}
		acquiring(nil, func(lease *store.Lease, err error) error {
			if term, ok := first[lease.Holder]; ok {
				lease.Term = term
			} else {
				first[lease.Holder] = lease.Term
			}
			return err
		})(l)
	}},
	"waits for a lease of a clock that was wrong": {by: aheadCase, plant: acquiring(nil, func(lease *store.Lease, err error) error {
		if lease.Ahead > 0 {
			return fmt.Errorf("lease %s: %w", lease.Name, store.ErrLeased)
		}
		return err
	})},
	"says nothing of a clock that was wrong": {by: aheadCase, plant: acquiring(nil, func(lease *store.Lease, err error) error {
		lease.Ahead = 0
		return err
	})},
	"takes a lease over that is a little longer": {by: aheadCase, plant: func(l *lab) {
		l.acquire = func(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
			lease, err := l.inner.Acquire(ctx, name, holder, ttl)
			if err != nil && ttl > time.Hour {
				return l.inner.Acquire(ctx, name, holder, time.Minute)
			}
			return lease, err
		}
	}},
	"takes a lease over and keeps its term": {by: aheadCase, plant: acquiring(nil, func(lease *store.Lease, err error) error {
		if lease.Ahead > 0 {
			lease.Term--
		}
		return err
	})},
}
