package storetest_test

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

const (
	onceCase  = "Inbox_lets_a_message_in_once"
	keysCase  = "Inbox_tells_handlers_and_sources_apart"
	deadCase  = "Inbox_row_of_a_dead_letter_lets_only_a_requeue_in"
	stayCase  = "Inbox_row_that_was_cancelled_stays_so_through_a_dead_letter"
	takeCase  = "Inbox_row_that_is_taken_over_gets_the_later_requeues_and_since"
	leaveCase = "Inbox_row_that_was_left_lets_the_message_in_again"
	replyCase = "Inbox_keeps_the_reply_to_the_byte"
	purgeCase = "Purge_deletes_old_handled_rows_only"
)

// keyed changes the keys of the inbox.
func keyed(change func(*store.Key)) mutant {
	return mutant{by: keysCase, plant: func(l *lab) { l.keys = change }}
}

// entering changes how entries are entered and what is found.
func entering(ask func(*store.Entry), change func(*store.InboxRow)) func(*lab) {
	return func(l *lab) {
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			for i := range entries {
				if ask != nil {
					ask(&entries[i])
				}
			}
			found, err := l.inner.Insert(ctx, t, entries)
			for i := range found {
				if change != nil {
					change(&found[i])
				}
			}
			return found, err
		}
	}
}

// replying changes what is kept of replies.
func replying(change func(*driver.Reply)) mutant {
	return mutant{by: replyCase, plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			for i := range w.Replies {
				change(&w.Replies[i].Reply)
			}
			return l.inner.Commit(ctx, t, w)
		}
	}}
}

// lying has Lookup return other states, of keys that a mutant marked.
func lying(l *lab) (say func(store.Key, store.State)) {
	var mu sync.Mutex
	states := map[store.Key]store.State{}
	l.lookup = func(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
		found, err := l.inner.Lookup(ctx, keys)
		mu.Lock()
		defer mu.Unlock()
		for i, k := range keys {
			if s, ok := states[k]; ok {
				found[i].State = s
			}
		}
		return found, err
	}
	return func(k store.Key, s store.State) {
		mu.Lock()
		defer mu.Unlock()
		states[k] = s
	}
}

// purging changes how Purge is asked.
func purging(ask func(before *time.Time, max *int)) mutant {
	return mutant{by: purgeCase, plant: func(l *lab) {
		l.purge = func(ctx context.Context, before time.Time, max int) (int, error) {
			ask(&before, &max)
			return l.inner.Purge(ctx, before, max)
		}
	}}
}

var inboxMutants = map[string]mutant{
	"lets every copy in": {by: onceCase, plant: entering(nil, func(f *store.InboxRow) { *f = store.InboxRow{} })},
	"lets nobody in":     {by: onceCase, plant: entering(nil, func(f *store.InboxRow) { f.State = store.Handled })},
	"forgets what it let in": {by: onceCase, plant: func(l *lab) {
		l.enter = func(_ context.Context, _ tx, entries []store.Entry) ([]store.InboxRow, error) {
			return make([]store.InboxRow, len(entries)), nil
		}
	}},
	"enters the first 100 of a batch": {by: onceCase, plant: func(l *lab) {
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			found, err := l.inner.Insert(ctx, t, entries[:min(100, len(entries))])
			return append(found, make([]store.InboxRow, len(entries)-len(found))...), err
		}
	}},
	"keeps an entry although it rolls back": {by: "Inbox_row_rolls_back_with_its_effect", plant: func(l *lab) {
		var entered diary[[]store.Entry]
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			entered.set(t, append(entered.get(t), entries...))
			return l.inner.Insert(ctx, t, entries)
		}
		l.rollback = func(ctx context.Context, t tx) error {
			if err := l.inner.Rollback(ctx, t); err != nil {
				return err
			}
			return l.alone(context.WithoutCancel(ctx), func(now tx) error {
				_, err := l.inner.Insert(ctx, now, entered.get(t))
				return err
			})
		}
	}},
	"lets two transactions in at once": {by: "Inbox_lets_one_of_two_transactions_in", plant: func(l *lab) {
		var asked diary[bool]
		var mu sync.Mutex
		times := map[store.Key]int{}
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			found, err := l.inner.Insert(ctx, t, entries)
			mu.Lock()
			defer mu.Unlock()
			asked.set(t, true)
			for i, e := range entries {
				if times[e.Key]++; times[e.Key] == 2 {
					found[i] = store.InboxRow{}
				}
			}
			return found, err
		}
	}},
	"has one inbox for all groups":               keyed(func(k *store.Key) { k.Group = "shop" }),
	"has one inbox for all handlers":             keyed(func(k *store.Key) { k.Handler = "h" }),
	"has one inbox for all sources":              keyed(func(k *store.Key) { k.Source = "s" }),
	"folds the case of sources in the inbox":     keyed(func(k *store.Key) { k.Source = strings.ToLower(k.Source) }),
	"cuts spaces at the end of ids in the inbox": keyed(func(k *store.Key) { k.ID = strings.TrimRight(k.ID, " ") }),
	"keeps no replies":                           replying(func(r *driver.Reply) { *r = driver.Reply{} }),
	"keeps not whether a reply was a refusal":    replying(func(r *driver.Reply) { r.Status = "" }),
	"cuts replies at 64 KiB":                     replying(func(r *driver.Reply) { r.Body = r.Body[:min(1<<16, len(r.Body))] }),
	"takes a reply for text":                     replying(func(r *driver.Reply) { r.Body = []byte(strings.ToValidUTF8(string(r.Body), "?")) }),
	"keeps not what a reply's body is":           replying(func(r *driver.Reply) { r.ContentType = "application/json" }),
	"lets a copy of a dead letter in":            {by: deadCase, plant: entering(func(e *store.Entry) { e.Requeues += 10 }, nil)},
	"keeps a requeue of a dead letter out":       {by: deadCase, plant: entering(func(e *store.Entry) { e.Requeues = 0 }, nil)},
	"does not say that a dead letter was taken over": {by: deadCase, plant: entering(nil, func(f *store.InboxRow) {
		if f.State == store.Released {
			f.State = store.Dead
		}
	})},
	"marks what was handled": {by: deadCase, plant: func(l *lab) {
		say := lying(l)
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			found, err := l.inner.Mark(ctx, t, entries, s)
			for i := range found {
				if found[i].State == store.Handled {
					say(entries[i].Key, s)
				}
			}
			return found, err
		}
	}},
	"marks no row that is missing": {by: deadCase + "|Inbox_row_that_was_cancelled_keeps_the_message_out", plant: func(l *lab) {
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			all := make([]store.InboxRow, len(entries))
			for i, e := range entries {
				if before, _ := l.inner.Lookup(ctx, []store.Key{e.Key}); before[0].State != "" {
					found, err := l.inner.Mark(ctx, t, entries[i:i+1], s)
					if err != nil {
						return nil, err
					}
					all[i] = found[0]
				}
			}
			return all, nil
		}
	}},
	"makes a dead letter of what was cancelled": {by: stayCase, plant: func(l *lab) {
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			found, err := l.inner.Mark(ctx, t, entries, store.Released)
			if err == nil {
				_, err = l.inner.Mark(ctx, t, entries, s)
			}
			return found, err
		}
	}},
	"marks a dead letter with fewer requeues": {by: "Inbox_row_that_is_marked_keeps_its_requeues", plant: func(l *lab) {
		last := map[store.Key]int{}
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			for _, e := range entries {
				last[e.Key] = e.Requeues
			}
			return l.inner.Mark(ctx, t, entries, s)
		}
		l.lookup = func(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
			found, err := l.inner.Lookup(ctx, keys)
			for i, k := range keys {
				found[i].Requeues = last[k]
			}
			return found, err
		}
	}},
	"lets in what was cancelled": {by: "Inbox_row_that_was_cancelled_keeps_the_message_out", plant: entering(nil, func(f *store.InboxRow) {
		if f.State == store.Cancelled {
			*f = store.InboxRow{}
		}
	})},
	"takes over without the later requeues": {by: takeCase, plant: func(l *lab) {
		l.lookup = func(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
			found, err := l.inner.Lookup(ctx, keys)
			for i := range found {
				found[i].Requeues = 0
			}
			return found, err
		}
	}},
	"takes over without the later since": {by: takeCase, plant: func(l *lab) {
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			for i, e := range entries {
				if before, _ := l.inner.Lookup(ctx, []store.Key{e.Key}); before[0].State != "" {
					entries[i].Since = time.Time{}
				}
			}
			return l.inner.Insert(ctx, t, entries)
		}
	}},
	"leaves nothing": {by: leaveCase, plant: func(l *lab) {
		l.leave = func(context.Context, tx, []store.Entry, []store.InboxRow) error { return nil }
	}},
	"deletes a row that was taken over and left": {by: leaveCase, plant: func(l *lab) {
		l.leave = func(ctx context.Context, t tx, entries []store.Entry, found []store.InboxRow) error {
			return l.inner.Undo(ctx, t, entries, make([]store.InboxRow, len(found)))
		}
	}},
	"leaves all that the transaction entered": {by: leaveCase, plant: func(l *lab) {
		var entered diary[[]store.Entry]
		var saw diary[[]store.InboxRow]
		l.enter = func(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
			found, err := l.inner.Insert(ctx, t, entries)
			entered.set(t, entries)
			saw.set(t, found)
			return found, err
		}
		l.leave = func(ctx context.Context, t tx, _ []store.Entry, _ []store.InboxRow) error {
			return l.inner.Undo(ctx, t, entered.get(t), saw.get(t))
		}
	}},
	"purges dead letters": {by: purgeCase, plant: func(l *lab) {
		say := lying(l)
		var marked []store.Key
		l.mark = func(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
			if s == store.Dead {
				marked = append(marked, entries[0].Key)
			}
			return l.inner.Mark(ctx, t, entries, s)
		}
		l.purge = func(ctx context.Context, before time.Time, max int) (int, error) {
			for _, k := range marked {
				say(k, "")
			}
			return l.inner.Purge(ctx, before, max)
		}
	}},
	"purges what is young":            purging(func(before *time.Time, _ *int) { *before = before.Add(2 * time.Hour) }),
	"purges nothing":                  purging(func(_ *time.Time, max *int) { *max = 0 }),
	"purges more than it is asked to": purging(func(_ *time.Time, max *int) { *max = 1 << 30 }),
	"purges by when a message came": {by: purgeCase, plant: entering(func(e *store.Entry) {
		if e.Since.After(time.Now()) {
			e.Since = time.Now().Add(-2 * time.Hour)
		}
	}, nil)},
}
