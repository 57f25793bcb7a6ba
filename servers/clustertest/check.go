package clustertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What a database's numbers are called: writtenKey and effectKey with the id of a
// note, the others with its key.
const (
	writtenKey  = "written "  // 1: its transaction was committed
	effectKey   = "effect "   // how often it took effect
	lastKey     = "last "     // one more than the number of the last note that took effect
	invertedKey = "inverted " // how often a note took effect after a later one
)

// effect writes down in a transaction that a note was handled: how often, and
// whether a later one of its key was before it.
func effect[Tx any](ctx context.Context, db Database[Tx], tx Tx, n note) error {
	add := func(key string) error {
		count, err := db.Get(ctx, tx, key)
		if err != nil {
			return err
		}
		return db.Put(ctx, tx, key, count+1)
	}
	if err := add(effectKey + n.id()); err != nil {
		return err
	}
	last, err := db.Get(ctx, tx, lastKey+n.Key)
	switch {
	case err != nil:
		return err
	case n.N+1 < last:
		return add(invertedKey + n.Key)
	}
	return db.Put(ctx, tx, lastKey+n.Key, n.N+1)
}

// check compares what was committed with the effects in the database.
func (l *load[Tx]) check(ctx context.Context) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	all, err := l.db.All(ctx)
	if err != nil {
		say("what was written cannot be read: %v", err)
		return problems
	}
	lost := map[string]bool{}
	for _, id := range l.record.confirmed() {
		if all[writtenKey+id] == 0 {
			say("%s was committed, and its transaction is gone", id)
		}
	}
	for key := range all {
		if id, ok := strings.CutPrefix(key, writtenKey); ok && all[effectKey+id] == 0 {
			lost[id] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if id, ok := strings.CutPrefix(key, effectKey); ok {
			if all[writtenKey+id] == 0 {
				say("%s was handled and never committed", id)
			}
			if all[key] != 1 {
				say("%s has %d effects", id, all[key])
			}
		}
		if k, ok := strings.CutPrefix(key, invertedKey); ok && l.h.Ordered {
			say("messages of key %s were handled after later ones %d times", k, all[key])
		}
	}
	if len(lost) > 0 {
		some := slices.Sorted(maps.Keys(lost))
		say("%d messages have no effect: %v", len(lost), some[:min(5, len(some))])
	}
	return problems
}

// confirmed are the ids of the notes whose commits were confirmed.
func (r *record) confirmed() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sent {
		ids = append(ids, s.id)
	}
	return ids
}

// sorted returns the times after from, in order.
func sorted(times map[string]time.Time, from time.Time) (all []time.Time) {
	for t := range maps.Values(times) {
		if t.After(from) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}
