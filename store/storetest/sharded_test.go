package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/storetest"
)

// A shardedLab is a store with more than one shard: a lab for each, of which the
// first has all else.
type shardedLab struct {
	*lab
	all []*lab

	shardOf func(*driver.Message) int
	labOf   func(shard int) *lab // that a relay of a shard uses
	shards  func() int
}

func newSharded(m mutant, n int) *shardedLab {
	s := &shardedLab{shards: func() int { return n }}
	for range n {
		s.all = append(s.all, newLab(m))
	}
	s.lab = s.all[0]
	s.shardOf = func(m *driver.Message) int { return store.Shard(m, n) }
	s.labOf = func(shard int) *lab { return s.all[shard] }
	if m.shard != nil {
		m.shard(s)
	}
	return s
}

func (s *shardedLab) database() storetest.Database[tx] {
	d := s.lab.database()
	d.DB = s
	return d
}

func (s *shardedLab) Shards() int { return s.shards() }

func (s *shardedLab) Commit(ctx context.Context, t tx, w store.Writes) error {
	parts := make([]store.Writes, len(s.all))
	parts[0] = store.Writes{Token: w.Token, Replies: w.Replies}
	for _, m := range w.Messages {
		i := s.shardOf(m)
		parts[i].Messages = append(parts[i].Messages, m)
	}
	for _, m := range w.Later {
		i := s.shardOf(m)
		parts[i].Later = append(parts[i].Later, m)
	}
	if err := s.lab.Commit(ctx, t, parts[0]); err != nil {
		return err
	}
	for i, l := range s.all[1:] {
		t, err := l.Begin(ctx)
		if err != nil {
			return err
		}
		if err := l.Commit(ctx, t, parts[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// leaseLab returns the lab that keeps a lease.
func (s *shardedLab) leaseLab(name string) *lab {
	var shard int
	if _, err := fmt.Sscanf(name, "relay/%d", &shard); err != nil {
		return s.lab
	}
	return s.labOf(shard)
}

func (s *shardedLab) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	return s.leaseLab(name).Acquire(ctx, name, holder, ttl)
}

func (s *shardedLab) Resign(ctx context.Context, l store.Lease) error {
	return s.leaseLab(l.Name).Resign(ctx, l)
}

func (s *shardedLab) Resume(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
	return s.labOf(t.Shard).Resume(ctx, t, service)
}

func (s *shardedLab) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	return s.labOf(t.Shard).Next(ctx, t, after, done, max)
}

func (s *shardedLab) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	return s.labOf(t.Shard).Advance(ctx, t, p)
}

func (s *shardedLab) Promote(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
	return s.labOf(t.Shard).Promote(ctx, t, max)
}

func (s *shardedLab) Rewind(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
	return s.labOf(t.Shard).Rewind(ctx, t, incarnation)
}

func (s *shardedLab) Retire(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	return s.labOf(t.Shard).Retire(ctx, t, r, max)
}

func (s *shardedLab) Stats(ctx context.Context, shard int) (store.Stats, error) {
	return s.labOf(shard).Stats(ctx, shard)
}

func (s *shardedLab) Blocked(ctx context.Context, t store.Term, lanes []store.Lane) ([]bool, error) {
	return s.labOf(t.Shard).Blocked(ctx, t, lanes)
}

func (s *shardedLab) Due(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
	return s.labOf(t.Shard).Due(ctx, t, skip, max, take)
}

func (s *shardedLab) Browse(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
	return s.labOf(shard).Browse(ctx, shard, after, max)
}

func (s *shardedLab) RetryHeld(ctx context.Context, channel, name string) (n int, err error) {
	for i := range s.all {
		some, rerr := s.labOf(i).RetryHeld(ctx, channel, name)
		n, err = n+some, errors.Join(err, rerr)
	}
	return n, err
}

// shardCase is the one that tries shards.
const shardCase = "Shards_share_nothing_but_the_tables"

var shardMutants = map[string]mutant{
	"has fewer shards than it was made with": {by: shardCase, shard: func(s *shardedLab) { s.shards = func() int { return 1 } }},
	"puts the messages of a key into the shards of their ids": {by: shardCase, shard: func(s *shardedLab) {
		s.shardOf = func(m *driver.Message) int {
			return store.Shard(&driver.Message{Channel: m.Channel, ID: m.ID}, len(s.all))
		}
	}},
	"puts delayed messages into the first shard": {by: shardCase, shard: func(s *shardedLab) {
		s.shardOf = func(m *driver.Message) int {
			if m.Due.IsZero() || m.ID[len(m.ID)-1] != '3' {
				return store.Shard(m, len(s.all))
			}
			return 0
		}
	}},
	"has one relay for all shards": {by: shardCase, shard: func(s *shardedLab) { s.labOf = func(int) *lab { return s.lab } }},
	"makes the lanes of the first shard due alone": {by: shardCase, shard: func(s *shardedLab) {
		for _, l := range s.all[1:] {
			l.retryHeld = func(context.Context, string, string) (int, error) { return 0, nil }
		}
	}},
	"retires what other shards have published": {by: shardCase, shard: func(s *shardedLab) {
		s.lab.retire = func(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
			for i, l := range s.all[1:] { // whoever leads there
				t, err := store.Lead(ctx, l.inner, i+1, "successor", time.Minute)
				if err == nil {
					_ = l.inner.Advance(ctx, t, store.Progress{To: store.Position{Seq: 1 << 40}})
					_, _ = l.inner.Retire(ctx, t, store.Retirement{Through: store.Position{Seq: 1 << 40}}, max)
				}
			}
			return s.lab.inner.Retire(ctx, t, r, max)
		}
	}},
}
