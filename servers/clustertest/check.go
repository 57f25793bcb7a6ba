package clustertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/store/memstore"
)

// check compares what was committed with the effects in the database.
func (r *record) check(db *memstore.Store, ordered bool) (problems []string) {
	r.mu.Lock()
	want := map[string]bool{}
	for _, s := range r.sent {
		want[s.id] = true
	}
	r.mu.Unlock()
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	lost := maps.Clone(want)
	for _, key := range db.Keys() {
		value, _ := db.Get(key)
		what, id, _ := strings.Cut(key, " ")
		switch {
		case what == "inverted" && !ordered:
		case what == "inverted":
			say("messages of key %s were handled after later ones %s times", id, value)
		case what != "effect":
		case !want[id]:
			say("%s was handled and never committed", id)
		case string(value) != "1":
			say("%s has %s effects", id, value)
		}
		if what == "effect" {
			delete(lost, id)
		}
	}
	if len(lost) > 0 {
		some := slices.Sorted(maps.Keys(lost))
		say("%d messages have no effect: %v", len(lost), some[:min(5, len(some))])
	}
	return problems
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
