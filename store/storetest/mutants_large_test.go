package storetest_test

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

const largeCase = "Batches_of_thousands_are_taken_whole"

// most is how much of a list a mutant takes.
const most = 1000

func some[T any](all []T) []T { return all[:min(most, len(all))] }

// Stores that take the beginning of a long list.
var largeMutants = map[string]mutant{
	"writes a thousand of a commit's messages": {by: largeCase, plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Messages = some(w.Messages)
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"keeps a thousand of a commit's replies": {by: largeCase, plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Replies = some(w.Replies)
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"delays a thousand of a commit's messages": {by: largeCase, plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Later = some(w.Later)
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"holds a thousand messages of a step":    {by: largeCase, plant: steps(func(p *store.Progress) { p.Hold = some(p.Hold) })},
	"releases a thousand messages of a step": {by: largeCase, plant: steps(func(p *store.Progress) { p.Release = some(p.Release) })},
	"puts off a thousand lanes of a step":    {by: largeCase, plant: steps(func(p *store.Progress) { p.Retry = some(p.Retry) })},
	"blocks a thousand lanes of a question": {by: largeCase, plant: func(l *lab) {
		l.blocked = func(ctx context.Context, t store.Term, lanes []store.Lane) ([]bool, error) {
			all, err := l.inner.Blocked(ctx, t, some(lanes))
			return append(all, make([]bool, len(lanes)-len(all))...), err
		}
	}},
	"tries a thousand messages at most": {by: largeCase, plant: trying(nil, func(rows []store.Held, _ *time.Time) []store.Held { return some(rows) })},
	"cancels a thousand messages at most": {by: largeCase, plant: func(l *lab) {
		l.cancel = func(ctx context.Context, t tx, source string, ids []string) (int, error) {
			return l.inner.Cancel(ctx, t, source, some(ids))
		}
	}},
	"discards a thousand messages at most": {by: largeCase, plant: discarding(func(l *lab, ctx context.Context, ps []store.Position) (int, error) {
		return l.inner.Discard(ctx, 0, some(ps))
	})},
	"looks a thousand keys up": {by: largeCase, plant: func(l *lab) {
		l.lookup = func(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
			found, err := l.inner.Lookup(ctx, some(keys))
			return append(found, make([]store.InboxRow, len(keys)-len(found))...), err
		}
	}},
	"marks a thousand rows of a batch": {by: largeCase, plant: func(l *lab) {
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			found, err := l.inner.Mark(ctx, t, some(entries), s)
			return append(found, make([]store.InboxRow, len(entries)-len(found))...), err
		}
	}},
	"leaves a thousand rows of a batch": {by: largeCase, plant: func(l *lab) {
		l.leave = func(ctx context.Context, t tx, entries []store.Entry, found []store.InboxRow) error {
			return l.inner.Undo(ctx, t, some(entries), some(found))
		}
	}},
}
