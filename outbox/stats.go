package outbox

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// Stats describe a box's outbox, all shards together.
type Stats struct {
	store.Stats
	Age       time.Duration // of the oldest message that is not published; 0 if there is none
	Published int64         // by this process since it started
	Rate      float64       // messages a second that this process published in the last ten seconds
	Behind    int64         // published by this process and not yet passed by the cursor: what a crash would repeat
	Leading   int           // how many shards this process publishes
	Looking   bool          // this process leads, and is about to publish held or delayed messages that are due, or looks whether there are any
	Trouble   string        // what the relay is waiting to be over; empty if nothing is wrong
}

// Stats counts. An error is the database's; what the process knows by itself is
// in the result all the same.
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
