package verify

import (
	"context"
	"maps"
	"time"
)

// look is how far the databases say that the run is; ok is false while they do
// not say. It counts effects, which is quick: a message that was handled twice
// hides one that was not.
func (r *run) look(ctx context.Context) (p Progress, ok bool) {
	return r.count(ctx, 10*time.Second, tables.effects)
}

// lookClosely is look that counts messages. It reads every effect, of which a long
// run has millions.
func (r *run) lookClosely(ctx context.Context) (p Progress, ok bool) {
	return r.count(ctx, 5*time.Minute, tables.handled)
}

func (r *run) count(ctx context.Context, within time.Duration, handled func(tables, context.Context) (map[string]int64, error)) (p Progress, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	committed, err := r.books.tables().committed(ctx)
	if err != nil {
		return p, false
	}
	effects, err := handled(r.shelf.tables(), ctx)
	if err != nil {
		return p, false
	}
	if r.plain != nil {
		committed[foreign] = r.plain.confirmed()
		if effects[foreign], err = r.shelf.tables().messages(ctx, foreign, r.plain.doubtful()); err != nil { // what comes twice has two
			return p, false
		}
	}
	kept, all := r.letters.counts(), int64(0)
	slowest := maps.Clone(committed)
	for _, g := range r.groups {
		slowest[g.Path] = min(slowest[g.Path], effects[g.Name]+kept[g.Name])
		all += effects[g.Name]
	}
	for path, n := range committed {
		p.Committed += n
		p.Handled += slowest[path]
	}
	p.main, p.ahead = slowest[""], committed[""]-slowest[""]
	p.Broken = r.faults.nodes.is()
	r.fleet.handled.Store(all)
	_, p.Kills = r.fleet.counts()
	return p, true
}

// measure takes the time in which nothing is handled. It is given what each look at
// the run came to.
func (r *run) measure(p Progress) {
	if now := time.Now(); r.still.seen(now, p.main, p.ahead > 0 && !r.gone.is()) {
		r.faults.nodes.still(r.still.since, now)
	}
}

// stillness is the longest time in which nothing was handled that was due.
type stillness struct {
	handled int64
	since   time.Time
	longest time.Duration
}

// seen reports whether something is due, and nothing was handled since the last
// time.
func (s *stillness) seen(now time.Time, handled int64, due bool) bool {
	if s.since.IsZero() || handled != s.handled || !due {
		s.handled, s.since = handled, now
		return false
	}
	s.longest = max(s.longest, now.Sub(s.since))
	return true
}

// lookEvery is how often the databases are asked.
const lookEvery = 200 * time.Millisecond
