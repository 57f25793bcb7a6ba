package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// Batch returns a handler for SubscribeBatch and HandleBatch that handles a batch in one
// transaction of box, with one commit. f is called for each message that was not
// handled before, one at a time, in the order of the batch. If f returns an error, what
// it changed and sent for this message is undone, and only this message is tried again
// by the retry policy; a refusal (dovetail.Refuse) is kept, as in Once.
//
// If the batch fails as a whole, because the database refuses its commit or one of its
// rows, each message is handled in a transaction of its own. So no message makes another
// one fail. Messages that were handled before wait until a commit succeeds; no attempt is
// counted for them.
//
// While nothing fails, all calls of f share one savepoint, which saves two round trips for
// each message. When a call fails, the calls before it are undone, and f is called again
// for each message, with a savepoint of its own. So f may be called twice for a message in
// one attempt.
func Batch[Tx, T any](box *outbox.Box[Tx], f func(ctx context.Context, tx Tx, out dovetail.Sender, v T) error) func(context.Context, []T) []error {
	return func(ctx context.Context, vs []T) []error {
		ins := dovetail.Batch(ctx)
		if len(ins) != len(vs) {
			return every(len(vs), ErrNoMessage)
		}
		for _, in := range ins {
			noteDeadLetter(box, in)
		}
		some := func(from, to int) ([]error, error) {
			b := batch[Tx]{box: box, ins: ins[from:to], errs: make([]error, to-from)}
			err := b.run(ctx, func(ctx context.Context, i int) error {
				return f(b.ins[i].Context(ctx), b.t.Tx(), b.t.Sender(), vs[from+i])
			})
			if len(b.ins) == 1 && errors.Is(err, store.ErrUnknown) {
				r := run[Tx]{box: box, in: b.ins[0]}
				b.errs[0], err = r.resolve(ctx, b.entries[0], nil, err), nil
				if errors.Is(b.errs[0], errAway) {
					err = b.errs[0]
				}
			}
			return b.errs, err
		}
		errs, err := some(0, len(vs))
		if err == nil {
			return errs
		}
		if len(vs) == 1 || errors.Is(err, errAway) {
			return every(len(vs), err)
		}
		for i := range vs {
			one, err := some(i, i+1)
			if errs[i] = one[0]; err != nil {
				errs[i] = err
			}
			if errors.Is(err, errAway) { // nor will the others
				copy(errs[i:], every(len(vs)-i, err))
				break
			}
		}
		return errs
	}
}

// errAway marks that the database began no transaction, or committed none that
// changes nothing, whatever the messages are.
var errAway = errors.New("inbox: the database is away")

func every(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// batch is one attempt at several messages.
type batch[Tx any] struct {
	box     *outbox.Box[Tx]
	ins     []*dovetail.Delivery
	errs    []error
	t       *outbox.Transaction[Tx]
	entries []store.Entry // sorted and distinct
	items   [][]int       // of each entry: the messages that are the same
	found   []store.InboxRow
}

func (b *batch[Tx]) run(ctx context.Context, f func(ctx context.Context, i int) error) error {
	b.sort()
	t, ctx, err := b.box.Begin(ctx)
	if err != nil {
		return dovetail.NotBegun(fmt.Errorf("%w: %w", errAway, err))
	}
	b.t = t
	defer t.Rollback(ctx) // after the commit it does nothing
	if b.found, err = b.box.DB().Insert(ctx, t.Tx(), b.entries); err != nil {
		return dovetail.NotBegun(fmt.Errorf("inbox: %w", err))
	}
	fresh := slices.ContainsFunc(b.found, func(f store.InboxRow) bool { return f.State == "" || f.State == store.Released })
	if fresh {
		for _, in := range b.ins {
			in.Begun()
		}
	}
	crash.InboxEntered.Pass()
	if err := b.handle(ctx, f); err != nil {
		return err
	}
	crash.InboxHandled.Pass()
	// After an unknown outcome each is entered again, and its row tells.
	if err := t.Commit(ctx); err != nil {
		if !fresh { // as in run.known
			return dovetail.NotBegun(fmt.Errorf("%w: %w", errAway, err))
		}
		return err
	}
	crash.InboxCommitted.Pass()
	return nil
}

// sort makes the entries: two transactions that entered the same messages in
// different orders would deadlock.
func (b *batch[Tx]) sort() {
	order := make([]int, len(b.ins))
	all := make([]store.Entry, len(b.ins))
	now := time.Now() // one for all: then they are alike
	for i, in := range b.ins {
		order[i], all[i] = i, entryOf(in, now)
	}
	slices.SortStableFunc(order, func(x, y int) int { return all[x].Compare(all[y].Key) })
	for _, i := range order {
		if n := len(b.entries); n > 0 && b.entries[n-1].Key == all[i].Key {
			b.items[n-1] = append(b.items[n-1], i)
			continue
		}
		b.entries = append(b.entries, all[i])
		b.items = append(b.items, []int{i})
	}
}

// handle runs f for each message that is new, in the order of the batch.
func (b *batch[Tx]) handle(ctx context.Context, f func(ctx context.Context, i int) error) error {
	first := make([]int, len(b.ins)) // entry + 1 of a message that f is called for
	for e, same := range b.items {
		switch b.found[e].State {
		case "", store.Released:
			first[same[0]] = e + 1
		default:
			r := run[Tx]{box: b.box, in: b.ins[same[0]]}
			b.set(same, r.again(b.found[e], nil))
		}
	}
	if whole, err := b.whole(ctx, first, f); whole || err != nil {
		return err
	}
	var left []int // entries whose effect was undone
	for i := range b.ins {
		e := first[i] - 1
		if e < 0 {
			continue
		}
		err := b.t.Savepoint(ctx, func() error { return f(ctx, i) })
		b.set(b.items[e], err)
		var broken *outbox.SavepointError
		switch {
		case err == nil:
		case errors.As(err, &broken):
			return broken // and not the refusal that it came with
		case refused(err):
			reply, rerr := b.ins[i].EncodeReply(nil, err)
			if rerr != nil {
				return rerr
			}
			b.t.Reply(b.entries[e].Key, reply)
		default:
			left = append(left, e)
		}
	}
	return b.leave(ctx, left)
}

// whole runs f for each message that is new under one savepoint, and reports
// whether all went well. If not, it is as if f had not been called.
func (b *batch[Tx]) whole(ctx context.Context, first []int, f func(ctx context.Context, i int) error) (bool, error) {
	var fresh []int
	for i := range b.ins {
		if first[i] > 0 {
			fresh = append(fresh, i)
		}
	}
	if len(fresh) < 2 {
		return len(fresh) == 0, nil
	}
	err := b.t.Savepoint(ctx, func() error {
		for _, i := range fresh {
			if err := f(ctx, i); err != nil {
				return err
			}
		}
		return nil
	})
	var broken *outbox.SavepointError
	if errors.As(err, &broken) {
		return false, broken
	}
	return err == nil, nil
}

func (b *batch[Tx]) set(items []int, err error) {
	for _, i := range items {
		b.errs[i] = err
	}
}

// leave takes back the rows of messages that failed.
func (b *batch[Tx]) leave(ctx context.Context, failed []int) error {
	if len(failed) == 0 {
		return nil
	}
	slices.Sort(failed)
	entries := make([]store.Entry, len(failed))
	found := make([]store.InboxRow, len(failed))
	for i, e := range failed {
		entries[i], found[i] = b.entries[e], b.found[e]
	}
	if err := b.box.DB().Undo(ctx, b.t.Tx(), entries, found); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}
