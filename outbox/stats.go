package outbox

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// Stats describe a box's outbox, all shards together. store.Stats is the database's
// part: the same in every process, and its counts may be estimates. The other fields,
// except Age, are about the box's own relay, in this process.
type Stats struct {
	store.Stats
	Age       time.Duration // of the oldest message that is not published and not held; 0 if there is none
	Published int64         // messages that this relay has published since it started
	Rate      float64       // messages a second that this relay published in the last ten seconds
	Behind    int64         // messages that this relay has published and the cursor has not passed: a crash publishes them again
	Leading   int           // how many shards this relay publishes now
	Looking   bool          // this relay publishes held or delayed messages that are due, or looks for them
	Trouble   string        // the latest thing that does not work and is tried again; empty if there is none
}

// Stats asks the database and returns the counts. An error is the database's; the
// fields that need no database are set all the same.
func (b *Box[Tx]) Stats(ctx context.Context) (Stats, error) {
	now := time.Now()
	all := Stats{
		Published: b.published.Load(), Rate: b.rate.at(now), Behind: b.behind.Load(),
		Leading: int(b.leading.Load()), Looking: b.looks.Load() > 0, Trouble: b.warnings.text(),
	}
	for shard := range b.db.Shards() {
		s, err := b.db.Stats(ctx, shard)
		if err != nil {
			return all, err
		}
		all.Backlog += s.Backlog
		all.Held += s.Held
		all.Later += s.Later
		all.Service = cmp.Or(all.Service, s.Service)
		if all.Oldest.IsZero() || !s.Oldest.IsZero() && s.Oldest.Before(all.Oldest) {
			all.Oldest = s.Oldest
		}
	}
	if !all.Oldest.IsZero() {
		all.Age = max(0, now.Sub(all.Oldest)) // clocks differ
	}
	return all, nil
}

// rateSeconds is over how many whole seconds a rate is taken.
const rateSeconds = 10

// rate counts what happens in each of the last seconds.
type rate struct {
	mu     sync.Mutex
	counts [rateSeconds + 1]int64 // by second; one of them is under way
	second int64                  // the latest, Unix time
	began  int64                  // the first
}

// add counts n at a time.
func (r *rate) add(now time.Time, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now.Unix())
	r.counts[r.second%int64(len(r.counts))] += int64(n)
}

// turn forgets the seconds that have passed.
func (r *rate) turn(second int64) {
	if r.began == 0 {
		r.began, r.second = second, second
	}
	for n := 0; r.second < second && n < len(r.counts); n++ {
		r.second++
		r.counts[r.second%int64(len(r.counts))] = 0
	}
	if r.second < second { // all of them are
		r.second = second
	}
}

// at is how many a second there were lately: in the whole seconds before now,
// or, in the first, in that.
func (r *rate) at(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began == 0 {
		return 0
	}
	r.turn(now.Unix())
	sum, seconds := int64(0), min(rateSeconds, r.second-r.began)
	if seconds == 0 {
		return float64(r.counts[r.second%int64(len(r.counts))])
	}
	for s := r.second - seconds; s < r.second; s++ {
		sum += r.counts[s%int64(len(r.counts))]
	}
	return float64(sum) / float64(seconds)
}
